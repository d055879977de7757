"""Ask a model about every image of a run that has no answer yet; the answers go into the run's ledger."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from vd100k.cluster.serving import Servers, fleet
from vd100k.config.run import Run
from vd100k.config.stages import Generate
from vd100k.console import say
from vd100k.engines.serving.fleet import Fleet
from vd100k.errors import DataError, ServerError
from vd100k.generation.progress import Progress
from vd100k.generation.scheduler import Scheduler, refuse_full_disk
from vd100k.generation.survey import Survey
from vd100k.generation.work_items import (
    OpenItems,
    WorkItem,
    all_items,
    changed_items,
    row_identity,
    unit_name,
)
from vd100k.ledger.origin import base_folder, is_current
from vd100k.ledger.provenance import answer_settings
from vd100k.ledger.rows import Ledger
from vd100k.llm.client import Client, Usage
from vd100k.models import model_folder


def rows_path(run: Run) -> Path:
    """The run's ledger; a preview and a shard have their own, which the whole run joins."""
    rows = run.paths.rows
    if run.preview:
        return rows.with_name(f"{rows.stem}.preview.jsonl")
    if run.shard:
        return rows.with_name(f"{rows.stem}.shard-{run.shard.replace('/', '-of-')}.jsonl")
    return rows


def ask_all(
    run: Run,
    settings: Generate,
    logs: Path,
    progress: Progress,
    only: Collection[str] | None = None,
    reuse: bool = True,
    servers: Servers = fleet,
) -> None:
    """Ask about each image once; existing answers are reused and cost nothing.

    An image that has changed since its answer is asked about again; its old row is kept in a file
    of its own. ``progress`` is kept up to date however this ends. ``only`` limits the images to these
    ids. Without ``reuse``, all existing answers count as made differently. ``servers`` are entered if there is
    something to ask.

    Raises:
        DataError: no images, rows that were made differently, a full disk, or too many failures.
        ServerError: no server answers, or one rejects all requests; the answers so far are kept.
        KeyboardInterrupt: after Ctrl-C, once the requests in flight are finished.
    """
    if run.hardware.urls is None:
        model_folder.ensure(run)  # before its fingerprint is taken
    decided_by = answer_settings(run, asyncio.run(_loaded_from(run, settings)))
    if not reuse:
        decided_by["asked_at"] = time.time_ns()
    unchanged = partial(is_current, base_folder(run))
    if_changed = "set_aside" if run.preview else settings.if_changed
    with Ledger(rows_path(run), decided_by, if_changed, unchanged, run.key, row_identity(run)) as ledger:
        if ledger.done:
            say(f"{len(ledger.done):,} answers exist already: {ledger.path}")
        survey = Survey(run, ledger, len(only) if only else None)
        items = itertools.chain(
            OpenItems(run, ledger, progress, settings.retry_failed, only),
            changed_items(run, ledger, progress, survey.changed, only),
        )
        try:
            first = next(items, None)
            if first is not None:
                refuse_full_disk(ledger.path, settings.min_free_disk_mb, run.key)
                with servers(run, logs) as found:
                    _ask(run, settings, ledger, progress, found, itertools.chain([first], items), survey)
        finally:
            progress.saved = ledger.sync()
        if settings.sorted:
            _sort(run, ledger)
    if progress.failed:
        say(
            f"{progress.failed:,} {unit_name(run)} have no answer; the reasons are in {ledger.failures_path}. "
            f"The next run retries those that may succeed then; {run.key}.retry_failed=true retries all."
        )


async def _loaded_from(run: Run, settings: Generate) -> str | None:
    """The name of the folder that the given servers loaded the model from; None if they do not tell, or disagree."""
    if not run.hardware.urls or not settings.check:
        return None
    found: set[str | None] = set()
    with contextlib.suppress(ServerError):  # no key: an error only if something is left to ask
        async with Client(run.model, run.served_name, settings, Usage()) as client:
            found = set(await asyncio.gather(*(client.loaded_from(url) for url in run.hardware.urls if url)))
    return found.pop() if len(found) == 1 else None


def _ask(
    run: Run,
    settings: Generate,
    ledger: Ledger,
    progress: Progress,
    servers: Fleet,
    items: Iterator[WorkItem],
    survey: Survey,
) -> None:
    async def ask() -> BaseException | None:
        direct = run.hardware.urls is None
        async with Client(run.model, run.served_name, settings, progress.usage, direct) as client:
            scheduler = Scheduler(run, settings, ledger, progress, client, servers, items, survey)
            await scheduler.run()
            return scheduler.end

    end = asyncio.run(ask())
    if end is not None:
        raise end


def _sort(run: Run, ledger: Ledger) -> None:
    """Write the same rows in the order of the images to a file of their own."""
    target = ledger.path.with_name(f"{ledger.path.stem}.sorted.jsonl")
    items = all_items(run, lambda *_: None, ordered=True)
    count = ledger.sort(target, (item.key(question) for item in items for question in item.questions))
    say(f"{count:,} rows in the order of the images: {target}")


def refuse_if_all_failed(run: Run, progress: Progress) -> None:
    """Raise DataError if no image was answered: later steps would have nothing to work on."""
    if not progress.rows:
        raise DataError(
            f"There is no answer about any of the {progress.total} {unit_name(run)} of {run.images}. The reasons are "
            f"in {rows_path(run).with_suffix('')}.failures.jsonl: remove the cause and run the same command again."
        )
