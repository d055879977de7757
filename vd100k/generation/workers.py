"""The workers of a generation: as many as requests may be in flight, and one more for each that waits for a retry."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from vd100k.llm.pool import Lease, Stopped


class Workers:
    """Calls ``work`` again and again in ``size`` tasks, until it returns False in all of them.

    After ``stop``, nothing new is started; ``end`` is the first reason that was given for it.
    """

    def __init__(self, size: int, work: Callable[[], Awaitable[bool]]) -> None:
        self.end: BaseException | None = None
        self._stopping = asyncio.Event()
        self._size, self._work = size, work
        self._busy = self._alive = 0
        self._group = asyncio.TaskGroup()
        self._finished = asyncio.Event()

    async def run(self, ticker: Coroutine[Any, Any, None]) -> None:
        """Run until the last worker has finished; ``ticker`` runs beside them and is cancelled then."""
        async with self._group:
            ticking = self._group.create_task(ticker)
            self._hire()
            await self._finished.wait()
            ticking.cancel()

    def stop(self, reason: BaseException) -> None:
        """Start nothing new; what is in flight is finished."""
        self.end = self.end or reason
        self._stopping.set()

    async def wait_for_retry(self, lease: Lease, seconds: float) -> None:
        """Wait, while another worker uses the lease; then renew it. Stopping the run ends the wait.

        Raises:
            Stopped: the run is ending.
            ServerError: no endpoint answers any more.
        """
        lease.release()
        self._busy -= 1
        self._hire()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)
        finally:
            self._busy += 1
        await lease.renew()

    def _hire(self) -> None:
        while self._busy < self._size and self._alive < 2 * self._size:
            self._busy += 1
            self._alive += 1
            self._group.create_task(self._run_worker())

    async def _run_worker(self) -> None:
        try:
            # A worker that was hired for one that waited is one too many when that one is back.
            while not self.end and self._busy <= self._size and await self._work():
                pass
        except Stopped:
            pass
        finally:
            self._busy -= 1
            self._alive -= 1
            if not self._alive:
                self._finished.set()
