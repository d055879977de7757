"""Ask a model about every image of a run that has no answer yet, into the run's ledger."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.config.stages import Generate
from vd100k.console import say
from vd100k.engines import model_folder as weights
from vd100k.engines.serving.fleet import fleet
from vd100k.errors import DataError
from vd100k.generation import work_items as work
from vd100k.generation.ledger import Ledger, Row
from vd100k.generation.pending import Pending
from vd100k.generation.progress import Counts
from vd100k.generation.scheduler import Crew, refuse_full_disk
from vd100k.generation.work_items import things
from vd100k.images import encode as images
from vd100k.io import fingerprint


def settings(run: Run) -> dict[str, Any]:
    """What decides the answers: rows made with other settings are other rows."""
    decisive = {
        "model": fingerprint.of_model(run.model_path) if run.hardware.urls is None else run.served_name,
        "system_prompt": run.task.system_prompt,
        "prompt": run.task.prompt,
        "question": run.task.question,
        "questions": str(run.task.questions) if run.task.questions else None,
        "sampling": run.task.sampling,
        "max_pixels": run.model.max_pixels,
    }
    return decisive if run.task.json_schema is None else decisive | {"schema": run.task.json_schema}


def rows_path(run: Run) -> Path:
    """The run's ledger: a preview and a shard have their own, which the whole run takes over."""
    rows = run.paths.rows
    if run.preview:
        return rows.with_name(f"{rows.stem}.preview.jsonl")
    if run.shard:
        return rows.with_name(f"{rows.stem}.shard-{run.shard.replace('/', '-of-')}.jsonl")
    return rows


def ask_all(run: Run, logs: Path, counts: Counts, only: Collection[str] | None = None) -> None:
    """Ask about each image once; what was answered before is reused and costs nothing.

    ``counts`` is kept up to date, however this ends. ``only`` limits the images to those ids.

    Raises:
        DataError: no images, rows made with other settings or of other images, a full disk, too many failures.
        ServerError: no server, or one that refuses us; the answers so far are kept.
        KeyboardInterrupt: after Ctrl-C, when what was in flight is there.
    """
    stage = run.stage
    assert isinstance(stage, Generate)
    if run.hardware.urls is None:
        weights.ensure(run)  # before its fingerprint is taken
    folder = work.base(run)

    def current(row: Row) -> bool:
        return images.unchanged(f"{folder}/{row['id']}", row)

    if_changed = "set_aside" if run.preview else stage.if_changed
    with Ledger(rows_path(run), settings(run), if_changed, current, run.key, work.identify(run)) as ledger:
        if ledger.done:
            say(f"{len(ledger.done):,} answers are there already: {ledger.path}")
        pending = Pending(run, ledger, only)
        crew = Crew(run, ledger, counts, len(only) if only else None)
        try:
            first = next(pending, None)
            if first is None:
                ledger.check_images()
            else:
                refuse_full_disk(ledger.path, stage.min_free_disk_mb)
                with fleet(run, logs) as servers:
                    crew.ask(servers, first, pending)
        finally:
            ledger.sync()
            crew.count(pending)
        if stage.sorted:
            _sort(run, ledger)
    if counts.failed:
        say(
            f"{counts.failed:,} {things(run)} have no answer, reasons in {ledger.failures_path}; "
            f"{run.key}.retry_failed=true asks them again."
        )


def _sort(run: Run, ledger: Ledger) -> None:
    """The same rows in the order of the images, in a file beside."""
    target = ledger.path.with_name(f"{ledger.path.stem}.sorted.jsonl")
    found = work.every(run, lambda *why: None, ordered=True)
    count = ledger.sort(target, (one.key(question) for one in found for question in one.questions))
    say(f"{count:,} rows in the order of the images: {target}")


def refuse_if_all_failed(run: Run, counts: Counts) -> None:
    """Raise DataError when not one image was answered: what follows would have nothing to work on."""
    if not counts.rows:
        raise DataError(
            f"None of the {counts.images} {things(run)} of {run.images} was answered. "
            f"The reasons: {rows_path(run).with_suffix('')}.failures.jsonl"
        )
