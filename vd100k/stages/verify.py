"""Say how far each answer can be trusted: ask again, compare with other models, or ask a judge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vd100k.cluster import serving
from vd100k.config.run import Run
from vd100k.config.stages import Verify
from vd100k.console import say
from vd100k.engines.serving import availability
from vd100k.errors import DataError
from vd100k.generation.progress import Progress
from vd100k.generation.run import ask_all, rows_path
from vd100k.io import jsonl
from vd100k.runs.needs import Need, images, missing
from vd100k.runs.summary import Summary, file_facts
from vd100k.runs.tracker import Tracker
from vd100k.verification import asking, verdicts, ways
from vd100k.verification.scores import distribution, spread_line


def needs(run: Run, stage: Verify) -> Iterator[Need]:
    rows = run.paths.rows
    text = f"{rows}: there are no rows to verify. Generate them first: python run.py stage=generate …"
    yield missing(rows, text)
    if run.parts:
        yield images(str(run.images), run)
    for name, path in ways.against(run).items():
        text = (
            f"verify.agreement.against contains {name}, but there are no rows of it: {path}. Generate them first: "
            f"python run.py stage=generate task={run.task.name} model={name} …"
        )
        yield missing(path, text, given=True)
    for part in ways.parts(run).values():
        if not rows_path(part).exists():  # a rerun may have nothing left to ask
            yield Need(lambda part=part: availability.faults(part))  # type: ignore[misc]


def makes(run: Run, stage: Verify) -> list[Path]:
    return [verdicts.path(run.paths.rows)]


def plan(run: Run, stage: Verify) -> list[str]:
    lines = []
    for name, part in ways.parts(run).items():
        times = f" {ways.samples(run, name)} times" if ways.samples(run, name) > 1 else ""
        lines += [*serving.describe(part)]
        lines.append(f"{name}: ask {part.served_name} about each row of {run.paths.rows}{times}")
        lines.append(f"append replies to {rows_path(part)}")
    lines += [*ways.notes(run), *(f"agreement: compare with {path}" for path in ways.against(run).values())]
    return [*lines, f"write verdicts to {verdicts.path(run.paths.rows)}"]


def run(run: Run, stage: Verify, folder: Path, summary: Summary, tracker: Tracker) -> None:
    for line in ways.notes(run):
        say(line)
    parts = ways.parts(run)
    for name, part in parts.items():
        _ask(run, stage, name, part, folder, summary)
    summary.inputs = [file_facts(run.paths.rows, sum(1 for _ in jsonl.read(run.paths.rows)))]
    if run.shard or run.preview:
        say("No verdicts are written yet: the same command without shard and preview writes them, with these replies.")
        return
    _write(run, parts, summary)


def _ask(run: Run, stage: Verify, name: str, part: Run, folder: Path, summary: Summary) -> None:
    """Ask every question of a part that has no reply yet."""
    count = asking.write_questions(part, asking.verified_rows(run), ways.prompt(run, name), ways.samples(run, name))
    if not count:
        raise DataError(f"{run.paths.rows}: no row has an id, a question and an answer, so nothing can be verified.")
    say(f"{name}: {count:,} questions to {part.served_name}")
    progress = Progress("questions", part.model.price)
    failures = rows_path(part).with_suffix(".failures.jsonl")
    try:
        ask_all(part, stage.ask, folder / name, progress)
        # A run of a few seconds ends before its failures are looked at.
        progress.check_failure_rate(stage.ask.max_failure_rate, part.key, failures)
    finally:
        progress.add_to(summary.counts, "images")
        if rows_path(part).exists():
            summary.outputs.append(file_facts(rows_path(part), sum(1 for _ in jsonl.read(rows_path(part)))))
    if run.preview:
        from vd100k.generation import preview  # slow to import

        say(f"\nWith images: {preview.show(part, rows_path(part), folder)}")


def _write(run: Run, parts: dict[str, Run], summary: Summary) -> None:
    """Score all rows and write their verdicts."""
    with ways.scorers(run, {name: rows_path(part) for name, part in parts.items()}) as scorers:
        written = verdicts.write(run, scorers)
        notes = [note for scorer in scorers for note in scorer.notes()]
    path = verdicts.path(run.paths.rows)
    summary.counts |= {"rows": written.rows, "without_verdict": written.without}
    summary.outputs.insert(0, file_facts(path, written.rows))
    if not written.rows:
        raise DataError(
            f"There is no verdict on any of the {written.without:,} rows. The replies, and the failures with their "
            f"reasons, are in {asking.folder(run.paths.rows)}: remove the cause and run the same command again."
        )
    spread = distribution(written.scores)
    summary.certainty = {"scores": spread}
    for note in notes:
        say(note)
    if written.without:
        say(f"{written.without:,} rows have no verdict, because they got no usable reply.")
    say(f"scores: {spread_line(spread)}")
    say(f"{written.rows:,} verdicts: {path}")
