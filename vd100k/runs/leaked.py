"""Held-out images that are among the training images: refused or left out, and kept as a file and as pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.config.stages import Evaluate
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.images.groups import ImageRef
from vd100k.io import jsonl
from vd100k.runs.summary import Summary
from vd100k.similarity import leaks
from vd100k.similarity.leaks import Leak
from vd100k.similarity.pictures import side_by_side


def not_leaked(
    run: Run, stage: Evaluate, labels: dict[str, Any], images: Iterable[ImageRef], folder: Path, summary: Summary
) -> dict[str, Any]:
    """The labels of those of the ``images`` that the model was not trained on, as ``if_leaked`` says.

    Raises:
        DataError: images have leaked and this is refused, or no other image is left.
    """
    if "after" not in stage.sides:
        return labels
    held_out = [image for image in images if image.id in labels]
    leaked = leaks.find(held_out, leaks.trained_on(run.paths.training.expanduser()), run.looks)
    if not leaked:
        return labels
    pairs = record(leaked, folder, summary)
    gone = {leak.id for leak in leaked} if stage.if_leaked == "drop" else set()
    text = leaks.message(leaked, len(labels), run.key, str(stage.images), pairs)
    if stage.if_leaked == "refuse" or len(gone) == len(labels):
        raise DataError(text)
    say(
        f"{len(gone)} held-out images are left out, because they are among the training images: {pairs}"
        if gone
        else text
    )
    return {id: label for id, label in labels.items() if id not in gone}


def record(found: list[Leak], folder: Path, summary: Summary) -> Path:
    """Write the pairs to a file in the run folder, with pictures of them for the report. Return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "leaked.jsonl"
    jsonl.write(path, (leak._asdict() for leak in found))
    summary.counts["leaked"] = summary.counts.get("leaked", 0) + len(found)
    summary.add_copies(side_by_side(((leak.path, leak.training) for leak in found), folder / "copies"))
    return path
