"""A function applied by several processes, with the results in the order of the items."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

IN_WORK = 2  # items for each process: one that it does, and one that waits

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    own: Callable[[Item], Result],
    make: Callable[[], Callable[[Item], Result]],
    items: Iterator[Item],
    processes: int,
    alone: int,
) -> Generator[Result]:
    """The result of each item, in their order; only a few items are taken in advance.

    This process does the first ``alone`` items with its ``own`` function, because it would take longer to start other
    processes for so few. Then each of ``processes`` others makes a function for itself. They take a moment to start,
    so this process goes on until they are ready.

    Raises:
        BrokenProcessPool: a process was killed from outside.
    """
    yield from map(own, islice(items, alone if processes > 1 else None))
    for item in items:
        yield own(item)
        break
    else:
        return
    with _pool(make, processes) as (pool, started):
        while not started.done() and (some := list(islice(items, 1))):
            yield own(some[0])
        waiting: deque[Future[Any]] = deque()
        started.result()
        for item in items:
            waiting.append(pool.submit(_call, item))
            if len(waiting) >= IN_WORK * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextlib.contextmanager
def _pool(make: Callable[[], Any], processes: int) -> Iterator[tuple[ProcessPoolExecutor, Future[None]]]:
    """Processes with a function each, and a future that is done when they are ready."""
    # Processes are forked from one that has imported everything and has no threads: quick, and safe.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, getattr(make, "func", make).__module__])
    pool, starter = ProcessPoolExecutor(processes, context, _begin, (make,)), ThreadPoolExecutor(1)
    try:
        yield pool, starter.submit(_start, pool, processes)
    finally:
        starter.shutdown()
        pool.shutdown(cancel_futures=True)


def _start(pool: ProcessPoolExecutor, processes: int) -> None:
    # The processes inherit the mask of this thread: Ctrl-C, which a terminal sends to all, is for the first one alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    for ready in [pool.submit(_nothing) for _ in range(processes)]:
        ready.result()


def _nothing() -> None:
    """Show that a process has begun."""


_function: Callable[[Any], Any]  # of a process that shares the work


def _begin(make: Callable[[], Callable[[Any], Any]]) -> None:
    global _function
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _function = make()
    gc.freeze()


def _end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, in whatever way."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(item: Any) -> Any:
    return _function(item)
