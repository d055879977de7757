"""Work made ready by threads, a little ahead of the event loop that takes it."""

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
THREADS = min(4, os.cpu_count() or 1)  # decoding and hashing release the interpreter's lock
SLOW_S = 0.002  # to make one item ready, above which more threads are worth it
GROW_S = 0.5  # between two threads more


class Feed(Generic[In, Out]):
    """``prepare(item)`` for each of ``items``, at most ``ahead`` of what is taken; in no certain order.

    The items are drawn by one thread at a time. What their iterator or ``prepare`` raises, the
    taker gets.
    """

    def __init__(self, items: Iterator[In], prepare: Callable[[In], Out], ahead: int) -> None:
        self._items, self._prepare = items, prepare
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Out] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._drawing = threading.Lock()
        self._room: queue.SimpleQueue[bool] = queue.SimpleQueue()
        for _ in range(ahead):
            self._room.put(True)
        self._taken, self._half = 0, ahead // 2
        self._running, self._stopped, self._usual_s = 0, False, 0.0
        self._error: BaseException | None = None
        self._add_thread()

    async def take(self) -> Out | None:
        """The next that is ready; None when there is no more."""
        while True:
            if self._error:
                raise self._error
            if self._stopped:
                return None
            if self._ready:
                taken = self._ready.popleft()
                self._make_room()
                return taken
            if not self._running:
                return None
            if self._usual_s > SLOW_S and self._running < THREADS and self._loop.time() > self._added_at + GROW_S:
                self._add_thread()
            taker = self._loop.create_future()
            self._takers.append(taker)
            if self._ready:  # since we looked, by a thread that saw no taker
                taker.set_result(None)
            await taker

    def _add_thread(self) -> None:
        """One is enough for small images, and any more cost time; large ones want decoding on all cores."""
        self._running += 1
        self._added_at = self._loop.time()
        threading.Thread(target=self._work, name="feed", daemon=True).start()

    def _make_room(self) -> None:
        """By halves: a thread that is woken for every single item fights the event loop for the interpreter."""
        self._taken += 1
        if self._taken >= self._half or not self._ready:
            for _ in range(self._taken):
                self._room.put(True)
            self._taken = 0

    def stop(self) -> None:
        """Give out nothing more; what is ready is let go."""
        self._stopped = True
        for _ in range(THREADS):
            self._room.put(False)
        self._ready.clear()
        self._wake()

    def _work(self) -> None:
        """One thread's part."""
        error: BaseException | None = None
        try:
            while self._room.get() and not self._stopped:
                with self._drawing:
                    item = next(self._items)
                began = time.perf_counter()
                self._hand(self._prepare(item))
                self._usual_s += (time.perf_counter() - began - self._usual_s) / 8
        except StopIteration:
            pass
        except BaseException as raised:
            error = raised
        self._tell(self._end, error)

    def _hand(self, prepared: Out) -> None:
        self._ready.append(prepared)
        if self._takers:  # waking the loop costs more than all the rest
            self._tell(self._wake_one)

    def _tell(self, *call: object) -> None:
        try:
            self._loop.call_soon_threadsafe(*call)  # type: ignore[arg-type]
        except RuntimeError:  # the loop is closed: nobody takes any more
            self._stopped = True

    def _wake_one(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return

    def _wake(self) -> None:
        while self._takers:
            self._wake_one()

    def _end(self, error: BaseException | None) -> None:
        self._running -= 1
        self._error = self._error or error
        if error or not self._running:
            self._wake()
        else:
            self._room.put(True)  # what this thread did not use
