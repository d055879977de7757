"""The workers of a generation: each takes a place at an endpoint, then an image, and asks all about it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import threading
from pathlib import Path

from vd100k.config.run import Run
from vd100k.config.stages import Generate
from vd100k.console import say
from vd100k.engines.serving.fleet import Fleet
from vd100k.errors import DataError, ServerError, Vd100kError
from vd100k.generation import work_items as work
from vd100k.generation.interrupts import interruptible
from vd100k.generation.ledger import Ledger
from vd100k.generation.pending import Pending
from vd100k.generation.prefetch import Feed
from vd100k.generation.progress import Counts, Line
from vd100k.generation.requester import Inquiry, Tally
from vd100k.generation.work_items import Work, things
from vd100k.images import encode as images
from vd100k.llm import prompts
from vd100k.llm.client import Client, Spent, check
from vd100k.llm.pool import Place, Pool, Stopped

AHEAD = 32  # images made ready before they are wanted
TICK_S = 0.5  # between two syncs of the ledger, and two looks at how things go
MEGABYTE = 1_000_000


class Crew:
    """Asks everything about the images it is given, into the ledger; ``counts`` is kept up to date.

    There is one process and one event loop. Images are read and encoded by threads (``Feed``), the
    pool says which endpoint has room, and what comes back is written before the next is taken.
    """

    def __init__(self, run: Run, ledger: Ledger, counts: Counts, total: int | None) -> None:
        assert isinstance(run.stage, Generate)
        self._run, self._stage, self._ledger, self._counts = run, run.stage, ledger, counts
        self._total = total
        self._busy = self._workers = 0
        self._tally = Tally()
        self._end: BaseException | None = None
        self._spent = Spent()

    def ask(self, servers: Fleet, first: Work, pending: Pending) -> None:
        """Ask ``first`` and all that is pending, or until something ends the run.

        Raises:
            DataError: another image than the one a row was made of, a full disk, too many failures.
            ServerError: no endpoint answers, or one refuses us for good.
            KeyboardInterrupt: after Ctrl-C, when what was in flight is there.
        """
        survey = threading.Thread(target=self._survey, daemon=True)
        survey.start()
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._ask(servers, first, pending))
        if self._end is None:
            survey.join()
        if self._end is not None:
            raise self._end

    def _survey(self) -> None:
        """What takes a while with many images, and nobody waits for."""
        try:
            if self._total is None:
                self._total = work.about(self._run)
            self._ledger.check_images()
        except (Vd100kError, OSError) as error:
            self._end = self._end or error

    async def _ask(self, servers: Fleet, first: Work, pending: Pending) -> None:
        stage, self._pending = self._stage, pending
        self._stopping = asyncio.Event()
        with Line(f"asking {self._run.served_name}", things(self._run), self._total) as self._line:
            async with Client(self._run.model, self._run.served_name, stage, self._spent) as self._client:
                self._inquiry = Inquiry(
                    self._run, self._ledger, self._client, self._tally, self._step_back, self._stopping
                )
                self._feed = Feed(itertools.chain([first], pending), self._inquiry.prepare, AHEAD)
                self._pool = Pool(
                    servers.urls, stage.max_in_flight, stage.endpoint_wait_s, self._client.is_back, servers.check
                )
                try:
                    with interruptible(self._interrupt):
                        await self._work_all(servers.urls)
                except Vd100kError as error:
                    self._end = _last_words(servers, error)
                finally:
                    self._feed.stop()
                    self._pool.close()
                    with contextlib.suppress(OSError):  # it will be raised again when the ledger is closed
                        self._ledger.sync()
                    self._show()

    async def _work_all(self, urls: list[str]) -> None:
        if self._stage.check:
            await asyncio.gather(*map(self._check, urls))
        try:
            async with asyncio.TaskGroup() as self._group:
                self._ticker = self._group.create_task(self._tick())
                self._hire()
        except* Exception as errors:
            first: BaseException = errors
            while isinstance(first, BaseExceptionGroup):  # questions about one image are a group in the group
                first = first.exceptions[0]
            raise first from None

    def _hire(self) -> None:
        """As many workers as places; those that wait before they ask again leave theirs to others."""
        while self._busy < self._stage.max_in_flight and self._workers < 2 * self._stage.max_in_flight:
            self._busy += 1
            self._workers += 1
            self._group.create_task(self._work())

    async def _check(self, url: str) -> None:
        sampling = self._run.task.sampling
        most = "max_completion_tokens" if "max_completion_tokens" in sampling else "max_tokens"
        task = self._run.task.model_copy(update={"sampling": sampling | {most: 1}})
        before, after = prompts.body(task, self._run.served_name, "?" if task.questions else None)
        body = before + images.TINY + after
        await check(self._client, url, self._run.served_name, body, 1 + self._stage.max_retries)

    def _interrupt(self) -> None:
        busy = sum(endpoint.in_flight for endpoint in self._pool.endpoints)
        say(f"Stopping: {busy} in flight are finished first. Ctrl-C again stops at once.")
        self._stop(KeyboardInterrupt())

    def _stop(self, why: BaseException) -> None:
        """Begin nothing more; the run ends with ``why`` when what is in flight is finished."""
        self._end = self._end or why
        self._stopping.set()
        self._feed.stop()
        self._pool.end(Stopped())

    async def _tick(self) -> None:
        """From time to time: rows made safe, counted and shown, and a look at what should end the run."""
        while True:
            await asyncio.sleep(TICK_S)
            await asyncio.to_thread(self._ledger.sync)
            self._show()
            if self._stopping.is_set():
                continue
            try:
                refuse_full_disk(self._ledger.path, self._stage.min_free_disk_mb)
                self._tally.refuse_more_than(self._stage.max_failure_rate, self._run, self._ledger.failures_path)
            except DataError as error:
                self._stop(error)
            if self._end:
                self._stop(self._end)  # the survey's

    def count(self, pending: Pending) -> None:
        """Bring ``counts`` up to date: rows count when they are safe."""
        counts = self._counts
        counts.images, counts.reused = pending.images, pending.reused
        counts.rows = pending.reused + self._ledger.safe
        counts.failed = pending.failed + self._tally.failed
        counts.spend(self._spent, self._run.model.price)

    def _show(self) -> None:
        self.count(self._pending)
        self._line.show(self._counts, self._total, self._pool.endpoints)

    async def _work(self) -> None:
        try:
            while self._busy <= self._stage.max_in_flight:
                async with Place(self._pool) as place:
                    ready = await self._feed.take()
                    if ready is None:
                        return
                    await self._inquiry.ask_about(ready, place)
        except Stopped:
            return
        finally:
            self._busy -= 1
            self._workers -= 1
            if not self._workers:
                self._ticker.cancel()

    async def _step_back(self, place: Place, seconds: float) -> None:
        """Wait before asking again, while another worker has the place."""
        place.leave()
        self._busy -= 1
        self._hire()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)
        finally:
            self._busy += 1
        await place.take_another()


def refuse_full_disk(path: Path, least_mb: int) -> None:
    """Raise DataError when the disk that holds ``path`` has less room than ``least_mb``."""
    free = shutil.disk_usage(path.parent).free // MEGABYTE
    if free < least_mb:
        raise DataError(
            f"{path.parent}: {free} MB are free there, less than min_free_disk_mb={least_mb}. "
            "Make room and run the same command again: what was answered is kept."
        )


def _last_words(servers: Fleet, error: Vd100kError) -> Vd100kError:
    """If a replica of ours died, what it said last says more."""
    try:
        servers.check()
    except ServerError as death:
        return death
    return error
