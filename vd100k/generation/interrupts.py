"""Ctrl-C while an event loop is running."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

# SIGHUP comes when the connection to the machine is lost.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interruptible(stop: Callable[[int], None]) -> Iterator[None]:
    """Call ``stop`` with the number of the first SIGINT, SIGTERM or SIGHUP, cancel the current task on the next.

    A thread gets no signals, so nothing happens there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    first = True

    def interrupt(number: int) -> None:
        nonlocal first
        if first:
            first = False
            stop(number)
        else:
            task.cancel()

    before = {number: signal.getsignal(number) for number in SIGNALS}
    if before[signal.SIGHUP] == signal.SIG_IGN:  # nohup ignores it on purpose
        del before[signal.SIGHUP]
    for number in before:
        loop.add_signal_handler(number, interrupt, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
