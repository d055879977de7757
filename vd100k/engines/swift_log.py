"""What ms-swift writes while it trains: its log, its checkpoints, and the curve in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def log_lines(checkpoints: Path, skip: int = 0) -> list[dict[str, Any]]:
    """The complete lines of ``logging.jsonl`` after the first ``skip``."""
    path = checkpoints / "logging.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # the last may be half written
    return [json.loads(line) for line in lines[skip:]]


def position(line: dict[str, Any]) -> tuple[int, int] | None:
    """(step, steps) of a log line, None for the closing one that has no loss."""
    match = re.fullmatch(r"(\d+)/(\d+)", str(line.get("global_step/max_steps", "")))
    return (int(match[1]), int(match[2])) if match else None


def figures(line: dict[str, Any]) -> dict[str, float]:
    """The numbers of a log line under the names that transformers gives them in W&B: train/loss, eval/loss, …"""
    named = {
        f"eval/{name.removeprefix('eval_')}"
        if name.startswith("eval_")
        else f"train/{name.removeprefix('train_')}": value
        for name, value in line.items()
        if isinstance(value, int | float)
    }
    where = position(line)
    return named | {"train/global_step": where[0]} if where else named


def curve(lines: list[dict[str, Any]], figure: str = "loss") -> list[tuple[int, float]]:
    """(step, training loss or another figure); a step repeated after a resumption counts as it was last."""
    points = {where[0]: line[figure] for line in lines if figure in line and (where := position(line))}
    return sorted(points.items())


def last_checkpoint(checkpoints: Path) -> Path | None:
    """The newest complete ``checkpoint-N``: swift writes the trainer's state last."""
    found = [path for path in checkpoints.glob("checkpoint-*") if (path / "trainer_state.json").exists()]
    return max(found, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)
