"""The files that ms-swift writes while it trains: its log and its checkpoints."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vd100k.io import jsonl
from vd100k.io.jsonl import Row


def log_rows(checkpoints: Path, skip: int = 0) -> list[Row]:
    """The rows of ``logging.jsonl`` after its first ``skip`` lines; a line that is not complete yet is left out."""
    path = checkpoints / "logging.jsonl"
    if not path.exists():
        return []
    # json.loads reads the NaN that a diverged training logs.
    return [row for _, _, _, row in jsonl.scan(path, json.loads, skip=skip) if isinstance(row, dict)]


def position(row: Row) -> tuple[int, int] | None:
    """The step of a log row and the number of steps; None for the last row, which has no loss."""
    match = re.fullmatch(r"(\d+)/(\d+)", str(row.get("global_step/max_steps", "")))
    return (int(match[1]), int(match[2])) if match else None


def metrics(row: Row) -> dict[str, float]:
    """The numbers of a log row under the names that transformers gives them in W&B: train/loss, eval/loss, …"""
    named = {
        f"eval/{name.removeprefix('eval_')}"
        if name.startswith("eval_")
        else f"train/{name.removeprefix('train_')}": value
        for name, value in row.items()
        if isinstance(value, int | float)
    }
    at = position(row)
    return named | {"train/global_step": at[0]} if at else named


def curve(rows: list[Row], metric: str = "loss") -> list[tuple[int, float]]:
    """The values of a metric by step; of a step that was repeated after a resumption, the last value."""
    points = {at[0]: row[metric] for row in rows if metric in row and (at := position(row))}
    return sorted(points.items())


def last_checkpoint(checkpoints: Path) -> Path | None:
    """The newest complete ``checkpoint-N``; swift writes the trainer's state last."""
    found = [path for path in checkpoints.glob("checkpoint-*") if (path / "trainer_state.json").exists()]
    return max(found, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)
