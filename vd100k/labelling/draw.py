"""Draws the rows that a stage shows, by its settings."""

from __future__ import annotations

from collections.abc import Callable

from vd100k.config.run import Run
from vd100k.config.stages import Label
from vd100k.errors import DataError
from vd100k.io.jsonl import Row, read_rows
from vd100k.labelling.labels import identity
from vd100k.labelling.sample import Drawn, Rows, by_score, uniform, with_earlier_turns


def of_stage(run: Run, stage: Label) -> tuple[list[Drawn], list[str]]:
    """The sample, and sentences about what is unusual.

    Raises:
        DataError: there is no row to show.
    """
    rows = Rows(stage.source)
    if stage.stratify == "score":
        sample = by_score(rows, stage.rows, run.seed, _scores(run, stage))
    else:
        sample = uniform(rows, stage.rows, run.seed)
    notes = []
    if rows.unusable:
        notes.append(f"{stage.source}: {rows.unusable:,} lines are not shown, because they are no rows with an answer.")
    if not sample:
        raise DataError(" ".join([f"{stage.source}: there is no row to label.", *notes]))
    if len(sample) < stage.rows:
        notes.append(
            f"{stage.source} has only {len(sample):,} rows to show; {run.key}.rows={stage.rows:,} asks for more."
        )
    return with_earlier_turns(sample, rows), notes


def _scores(run: Run, stage: Label) -> Callable[[Row], float | None]:
    """A function that returns the score of stage=verify of a row; None if there is none of its present answer."""
    path = stage.source.with_name(f"{stage.source.stem}.verdicts.jsonl")
    if not path.exists():
        raise DataError(
            f"{path}: there are no scores to draw by. Make them first (python run.py stage=verify …), "
            f"or draw from all rows alike: {run.key}.stratify=null."
        )
    scores = {
        (verdict["id"], verdict["question"], verdict["answer_sha256"]): float(verdict["score"])
        for verdict in read_rows(path)
        if verdict.get("score") is not None
    }
    return lambda row: scores.get(identity(row))
