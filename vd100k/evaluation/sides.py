"""What an evaluation asks: each side asks other weights the same question about the same held-out images."""

from __future__ import annotations

from typing import Any, get_args

from vd100k.config.run import Run
from vd100k.config.stages import Evaluate, Side

SIDES = get_args(Side)
ALSO = "also."  # the parts of a run that evaluate other tasks begin with it


def sides(run: Run, stage: Evaluate) -> dict[str, Run]:
    """The runs that ask, by side: ``before`` (the base model) and ``after`` (the merged model)."""
    return {name: _asking(run, part, stage) for name, part in run.parts.items() if name in SIDES}


def others(run: Run) -> dict[str, tuple[Run, Evaluate]]:
    """The evaluations of other tasks with their settings, by name."""
    found = {name.removeprefix(ALSO): part for name, part in run.parts.items() if name.startswith(ALSO)}
    return {name: (part, part.stage) for name, part in found.items() if part.stage.name == "evaluate"}


def figures(metrics: dict[str, Any]) -> dict[str, Any]:
    """The figures of each side in the metrics of a summary, which may have others."""
    return {side: metrics[side] for side in SIDES if isinstance(metrics.get(side), dict)}


def _asking(run: Run, part: Run, stage: Evaluate) -> Run:
    """A part of the run, asking the question that training taught, with its answers in a file of their own."""
    # Training rows have the task's short question if there is one. Replies are compared as they are; of a
    # conversation, the first one.
    asked = {"prompt": run.task.question or run.task.prompt, "turns": run.task.turns[:1]}
    task = part.task.model_copy(update={**asked, "reader": "text"})
    name = run.full_name if part.weights == "merged" else run.model.name
    paths = part.paths.model_copy(update={"rows": stage.folder / f"{name}.{part.weights}.jsonl"})
    return part.model_copy(update={"images": stage.images, "task": task, "paths": paths})
