"""The event loop of a generation: workers take a lease of an endpoint, then an image, and ask everything about it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from vd100k.config.run import Run
from vd100k.config.stages import Generate
from vd100k.console import say
from vd100k.engines.serving.fleet import Fleet
from vd100k.errors import DataError, ServerError, Vd100kError
from vd100k.generation.interrupts import interruptible
from vd100k.generation.prefetch import Prefetcher
from vd100k.generation.progress import Progress, ProgressLine
from vd100k.generation.requester import Requester
from vd100k.generation.survey import Outlook
from vd100k.generation.work_items import WorkItem
from vd100k.generation.workers import Workers
from vd100k.ledger.rows import Ledger
from vd100k.llm import prompts
from vd100k.llm.client import Client
from vd100k.llm.endpoint_check import check_endpoint
from vd100k.llm.pool import Lease, Pool, Stopped
from vd100k.stores.urls import is_url

AHEAD = 32  # images prepared before they are needed
TICK_S = 0.5  # between two syncs of the ledger
MEGABYTE = 1_000_000


class Scheduler:
    """Asks about the work items it is given, until they are done or something ends the run.

    There is one process and one event loop, in which the scheduler must be created. Threads read and
    encode images (``Prefetcher``), the pool decides which endpoint an image goes to, and every reply
    is written before the worker takes the next image.
    """

    def __init__(
        self,
        run: Run,
        settings: Generate,
        ledger: Ledger,
        progress: Progress,
        client: Client,
        servers: Fleet,
        items: Iterator[WorkItem],
        survey: Outlook,
    ) -> None:
        self._run, self._settings, self._ledger, self._progress = run, settings, ledger, progress
        self._client, self._servers, self._survey = client, servers, survey
        self._workers = Workers(settings.max_in_flight, self._work)
        self._requester = Requester(run, settings.max_retries, ledger, progress, client, self._workers)
        self._prefetcher = Prefetcher(items, self._requester.prepare, AHEAD, is_url(self._requester.folder))
        limits = settings.max_in_flight, settings.endpoint_wait_s
        self._pool = Pool(servers.urls, *limits, client.is_back, servers.check, run.key)
        self._line = ProgressLine(f"asking {run.served_name}", progress)

    @property
    def end(self) -> BaseException | None:
        """What ended the run early; None if it did all its work."""
        return self._workers.end

    async def run(self) -> None:
        """Work until the end; requests in flight are finished first if the run ends early."""
        with self._line:
            try:
                with interruptible(self._interrupt):
                    await self._ask_all()
            except Vd100kError as error:
                self._workers.stop(self._root_cause(error))
            except asyncio.CancelledError:
                pass  # a second Ctrl-C; the first one has stopped the workers
            finally:
                self._prefetcher.stop()
                self._pool.close()
                with contextlib.suppress(OSError):  # raised again when the ledger is closed
                    self._progress.saved = self._ledger.sync()
                self._show()

    async def _ask_all(self) -> None:
        if self._settings.check:
            await asyncio.gather(*(self._check(endpoint.url) for endpoint in self._pool.endpoints))
        try:
            await self._workers.run(self._tick())
        except* Exception as errors:
            first: BaseException = errors
            while isinstance(first, BaseExceptionGroup):  # the questions about one image are a nested group
                first = first.exceptions[0]
            raise first from None

    async def _work(self) -> bool:
        """Ask about one image; False if there are no more."""
        async with Lease(self._pool) as lease:
            prepared = await self._prefetcher.take()
            if prepared is None:
                return False
            await self._requester.ask_about(prepared, lease)
        return True

    async def _check(self, url: str) -> None:
        """Send one tiny request."""
        attempts = 1 + self._settings.max_retries
        body = prompts.tiny_body(self._run.task, self._run.served_name)
        await check_endpoint(self._client, url, self._run.served_name, body, attempts, self._run.key)

    async def _tick(self) -> None:
        """From time to time: make rows safe, show the progress, and look for reasons to end the run."""
        while True:
            await asyncio.sleep(TICK_S)
            self._progress.saved = await asyncio.to_thread(self._ledger.sync)
            self._pool.update(self._servers.urls)
            self._show()
            if self._workers.end:
                self._stop(self._workers.end)
                continue
            if self._survey.error:
                self._stop(self._survey.error)
            try:
                refuse_full_disk(self._ledger.path, self._settings.min_free_disk_mb, self._run.key)
                self._progress.check_failure_rate(
                    self._settings.max_failure_rate, self._run.key, self._ledger.failures_path
                )
            except DataError as error:
                self._stop(error)

    def _show(self) -> None:
        self._progress.in_flight = [endpoint.in_flight for endpoint in self._pool.endpoints]
        self._line.show(self._survey.expected)

    def _interrupt(self, number: int) -> None:
        say(
            f"Stopping once the {self._pool.in_flight} requests in flight are finished. Press Ctrl-C again to "
            "stop at once."
        )
        self._stop(KeyboardInterrupt(number))

    def _stop(self, reason: BaseException) -> None:
        """Start nothing new; the run ends with ``reason`` when the requests in flight are finished."""
        self._workers.stop(reason)
        self._prefetcher.stop()
        self._pool.end(Stopped())

    def _root_cause(self, error: Vd100kError) -> Vd100kError:
        """If one of our own replicas died, its last log lines say more than the error."""
        try:
            self._servers.check()
        except ServerError as death:
            return death
        return error


def refuse_full_disk(path: Path, min_free_mb: int, stage_key: str) -> None:
    """Raise DataError if less than ``min_free_mb`` is free on the disk of ``path``."""
    free = shutil.disk_usage(path.parent).free // MEGABYTE
    if free < min_free_mb:
        raise DataError(
            f"{path.parent}: only {free} MB are free, less than {stage_key}.min_free_disk_mb={min_free_mb}. "
            "Make room and run the same command again: all earlier answers are kept."
        )
