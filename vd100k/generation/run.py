"""Ask a model about every image of a run that has no answer yet; the answers go into the run's ledger."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from vd100k.cluster.serving import Servers, fleet
from vd100k.config.run import Run
from vd100k.config.stages import Generate
from vd100k.console import say
from vd100k.engines.serving.fleet import Fleet
from vd100k.errors import DataError, ServerError
from vd100k.generation.progress import Progress
from vd100k.generation.scheduler import Scheduler, refuse_full_disk
from vd100k.generation.survey import Outlook, Survey
from vd100k.generation.work_items import (
    OpenItems,
    WorkItem,
    all_items,
    changed_items,
    row_identity,
    unit_name,
)
from vd100k.io.jsonl import Row
from vd100k.ledger.known import Known
from vd100k.ledger.origin import comparison
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
    decided_by = decide(run, settings)
    if not reuse:
        decided_by["asked_at"] = time.time_ns()
    with opened(run, settings, decided_by, rows_path(run)) as ledger:
        survey = Survey(run, ledger, len(only) if only else None)
        items = itertools.chain(
            OpenItems(run, ledger, progress, settings.retry_failed, only),
            changed_items(run, ledger, progress, survey.changed, only),
        )
        ask_items(run, settings, ledger, progress, items, survey, lambda: servers(run, logs))
        conclude(run, settings, ledger, progress)


def decide(run: Run, settings: Generate) -> Row:
    """What decides the answers of the run, with the name of the weights that given servers report."""
    if run.hardware.urls is None:
        model_folder.ensure(run)  # before its fingerprint is taken
    return answer_settings(run, asyncio.run(_loaded_from(run, settings)))


@contextlib.contextmanager
def opened(
    run: Run, settings: Generate, decided_by: Row, path: Path, whole: Known | None = None, wait_s: float = 0
) -> Iterator[Ledger]:
    """The ledger at ``path``: that of the run, or of a slice of it if ``whole`` is what that of the run knows."""
    if_changed = "set_aside" if run.preview else settings.if_changed
    ledger = Ledger(path, decided_by, if_changed, comparison(run), run.key, row_identity(run), whole, wait_s)
    with ledger:
        if ledger.done:
            say(f"{len(ledger.done):,} answers exist already: {ledger.path}")
        yield ledger


def ask_items(
    run: Run,
    settings: Generate,
    ledger: Ledger,
    progress: Progress,
    items: Iterator[WorkItem],
    outlook: Outlook,
    servers: Callable[[], contextlib.AbstractContextManager[Fleet]],
) -> None:
    """Ask about all items; ``servers`` are entered if there are any. Raises what ``ask_all`` does."""
    try:
        first = next(items, None)
        if first is not None:
            refuse_full_disk(ledger.path, settings.min_free_disk_mb, run.key)
            with servers() as found:
                _ask(run, settings, ledger, progress, found, itertools.chain([first], items), outlook)
    finally:
        progress.saved = ledger.sync()


def conclude(run: Run, settings: Generate, ledger: Ledger, progress: Progress) -> None:
    """After everything was asked: the sorted file, if it is wanted, and where failures are told."""
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
    outlook: Outlook,
) -> None:
    async def ask() -> BaseException | None:
        direct = run.hardware.urls is None
        async with Client(run.model, run.served_name, settings, progress.usage, direct) as client:
            scheduler = Scheduler(run, settings, ledger, progress, client, servers, items, outlook)
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
