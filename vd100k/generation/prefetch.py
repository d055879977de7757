"""Items prepared by threads, a little ahead of the event loop that takes them."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")
MAX_THREADS = min(4, os.cpu_count() or 1)  # decoding and hashing release the GIL
MAX_WAITING = 32  # threads for images behind a network, which mostly wait
SLOW_S = 0.002  # more threads are worth their cost if preparing one item takes longer
GROW_S = 0.5  # between two new threads


class Prefetcher(Generic[In, Out]):
    """``prepare(item)`` for each of ``items``, at most ``ahead`` before they are taken; in no fixed order.

    ``waits``: preparing an item is mostly waiting for a network. Must be created in a running event loop. One thread
    at a time draws an item. An exception of the iterator or of ``prepare`` is raised by ``take``.
    """

    def __init__(self, items: Iterator[In], prepare: Callable[[In], Out], ahead: int, waits: bool = False) -> None:
        self._items, self._prepare = items, prepare
        self._most_threads = MAX_WAITING if waits else MAX_THREADS
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Out] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._drawing = threading.Lock()
        self._permits: queue.SimpleQueue[bool] = queue.SimpleQueue()  # one for each item that may be prepared
        for _ in range(ahead):
            self._permits.put(True)
        self._taken, self._half = 0, ahead // 2
        self._threads, self._stopped, self._usual_s = 0, False, 0.0
        self._thread_added_at = 0.0
        self._error: BaseException | None = None
        self._add_thread()

    async def take(self) -> Out | None:
        """The next prepared item; None if there are no more."""
        while True:
            if self._error:
                raise self._error
            if self._stopped:
                return None
            if self._ready:
                item = self._ready.popleft()
                self._return_permits()
                return item
            if not self._threads:
                return None
            if self._is_slow() and self._loop.time() > self._thread_added_at + GROW_S:
                self._add_thread()
            taker = self._loop.create_future()
            self._takers.append(taker)
            if self._ready:  # a thread added an item just now, before it could see this taker
                taker.set_result(None)
            await taker

    def stop(self) -> None:
        """Give out nothing more, and drop what is prepared."""
        self._stopped = True
        for _ in range(self._most_threads):
            self._permits.put(False)
        self._ready.clear()
        self._wake_all()

    def _is_slow(self) -> bool:
        """Whether another thread would help: one is best for small images, large ones need all cores."""
        return self._usual_s > SLOW_S and self._threads < self._most_threads

    def _add_thread(self) -> None:
        self._threads += 1
        self._thread_added_at = self._loop.time()
        threading.Thread(target=self._work, name="prefetch", daemon=True).start()

    def _return_permits(self) -> None:
        """Return permits in batches: a thread woken for every item competes with the event loop for the GIL."""
        self._taken += 1
        if self._taken >= self._half or not self._ready:
            for _ in range(self._taken):
                self._permits.put(True)
            self._taken = 0

    def _work(self) -> None:
        """The body of a thread."""
        error: BaseException | None = None
        try:
            while self._permits.get() and not self._stopped:
                with self._drawing:
                    item = next(self._items)
                began = time.perf_counter()
                self._add(self._prepare(item))
                self._usual_s += (time.perf_counter() - began - self._usual_s) / 8
        except StopIteration:
            pass
        except BaseException as raised:
            error = raised
        self._call_in_loop(self._end, error)

    def _add(self, prepared: Out) -> None:
        self._ready.append(prepared)
        if self._takers:  # waking the event loop costs more than everything else here
            self._call_in_loop(self._wake_one)

    def _call_in_loop(self, *call: object) -> None:
        try:
            self._loop.call_soon_threadsafe(*call)  # type: ignore[arg-type]
        except RuntimeError:  # the loop is closed, so nothing will be taken any more
            self._stopped = True

    def _wake_one(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return

    def _wake_all(self) -> None:
        while self._takers:
            self._wake_one()

    def _end(self, error: BaseException | None) -> None:
        """Called in the event loop when a thread has finished."""
        self._threads -= 1
        self._error = self._error or error
        if error or not self._threads:
            self._wake_all()
        else:
            self._permits.put(True)  # the permit that this thread did not use
