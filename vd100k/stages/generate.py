"""Ask a model about every image; append rows, resume, and record failures with their reasons."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vd100k.cluster import serving
from vd100k.config.run import Run
from vd100k.config.stages import Generate
from vd100k.console import say
from vd100k.drivers import run as drivers
from vd100k.engines.serving import availability
from vd100k.errors import DataError
from vd100k.generation.progress import Progress
from vd100k.generation.run import refuse_if_all_failed, rows_path
from vd100k.generation.work_items import all_items, group_faults, missing_questions, row_identity, unit_name
from vd100k.images.ignored import Ignored
from vd100k.io import jsonl
from vd100k.ledger.origin import refuse_other_folder
from vd100k.ledger.rows import answered
from vd100k.runs import rows_elsewhere
from vd100k.runs.needs import Need, images, missing
from vd100k.runs.summary import Summary, file_facts
from vd100k.runs.tracker import Tracker

LANGUAGES = {"en": "English", "zh": "Chinese"}


def needs(run: Run, stage: Generate) -> Iterator[Need]:
    questions = run.task.questions
    yield images(str(run.images), run)
    yield Need(lambda: group_faults(run), given=True)
    if questions is not None:
        yield missing(questions, missing_questions(run), given=run.asker is None)
    if not rows_path(run).exists():  # a rerun may have nothing left to ask
        yield Need(lambda: availability.faults(run))


def makes(run: Run, stage: Generate) -> list[Path]:
    return [rows_path(run)]


def plan(run: Run, stage: Generate) -> list[str]:
    """The endpoints or server commands, the number of rows to generate, and the file they are appended to."""
    lines, rows = [*_language(run), *serving.describe(run), *drivers.describe(run, stage)], rows_path(run)
    refuse_other_folder(run)
    with contextlib.suppress(DataError):  # it is among the faults of what ``needs`` yields
        done = answered(rows, row_identity(run))
        ignored = Ignored()
        items = all_items(run, lambda *_: None, ignored=ignored)
        keys = [item.key(question) for item in items for question in item.questions]
        lines.append(f"rows pending: {sum(key not in done for key in keys)} of {len(keys)}")
        lines += [str(ignored)] if ignored else []
    return [*lines, f"append rows to {rows}", *_bought_already(run)]


def run(run: Run, stage: Generate, folder: Path, summary: Summary, tracker: Tracker) -> None:
    progress, rows = Progress(unit_name(run), run.model.price), rows_path(run)
    refuse_other_folder(run)
    for note in _bought_already(run):
        say(note)
    sample = _sampler(progress)
    for line in _language(run):
        say(line)
    try:
        with tracker.following(sample):
            drivers.ask_all(run, stage, folder, progress)
    finally:
        summary.counts = progress.counts()
        metrics = {"ignored": dict(progress.ignored), "pace": progress.pace.columns()}
        summary.metrics = {name: value for name, value in metrics.items() if value}
        summary.inputs = [{"path": run.images, "rows": progress.total}]
        if rows.exists():
            summary.outputs = [file_facts(rows, sum(1 for _ in jsonl.read(rows)))]
        if progress.usage.requests:
            tracker.log(sample())
        else:
            tracker.disable()
    if run.preview:
        from vd100k.generation import preview  # slow to import

        say(
            f"\nWith images: {preview.show(run, rows, folder)}\nTo ask about the rest, run the same command "
            "without preview: it reuses these answers."
        )
    refuse_if_all_failed(run, progress)
    if progress.ignored:
        say(str(progress.ignored))
    cost = "" if progress.cost is None else f" for ${progress.cost:.4f}"
    say(
        f"{progress.rows} rows ({progress.reused} reused, {progress.failed} failed) "
        f"with {progress.usage.requests} requests{cost}: {rows}"
    )


def _language(run: Run) -> list[str]:
    """A line with the language of the prompt and how to choose another; none if the prompt is the user's own."""
    texts, chosen = run.task.texts, run.task.language
    if texts.get(chosen, {}).get("prompt") != run.task.prompt:
        return []
    others = [f"task.language={other} for {LANGUAGES.get(other, other)}" for other in texts if other != chosen]
    return [f"prompts in {LANGUAGES.get(chosen, chosen)}" + (f" ({', '.join(others)})" if others else "")]


def _bought_already(run: Run) -> list[str]:
    """A note for each other task whose answers this run could use instead of asking."""
    again = f"task={run.task.name} asks about all images again."
    return [f"{note} {again}" for note in rows_elsewhere.other_tasks(run)]


def _sampler(progress: Progress) -> Callable[[], dict[str, float]]:
    """A function that returns the counters, and the rows a second since its last call; nothing before any request."""
    then, before = time.monotonic(), 0

    def sample() -> dict[str, float]:
        nonlocal then, before
        if not progress.usage.requests:
            return {}
        now, new = time.monotonic(), progress.saved
        rate, then, before = (new - before) / max(now - then, 1e-9), now, new
        known = {name: value for name, value in progress.counts().items() if value is not None}
        return {f"generate/{name}": value for name, value in (known | {"rows_per_s": rate}).items()}

    return sample
