"""The labels of held-out images: what is correct."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.images.find import Selection, find_images
from vd100k.io import tables
from vd100k.io.jsonl import Fault


def read_labels(run: Run, path: Path, images: str) -> dict[str, Any]:
    """The label of each image, by image id; ``limit`` restricts them to the first images.

    Raises:
        DataError: no image has a label.
    """
    asked = {image.id for image in find_images(images, Selection(run.limit), run.image_folder)}
    labels: dict[str, Any] = {}
    for number, row in tables.read(path):
        if isinstance(row, Fault):
            say(f"{path}, line {number} is skipped: {row.detail}")
            continue
        # Roboflow calls them image and suffix.
        id, label = row.get("id", row.get("image")), row.get("answer", row.get("suffix"))
        if isinstance(id, str) and id in asked and label is not None:
            labels[id] = _structured(label, run.task.reader)
    if not labels:
        raise DataError(
            f"{path}: no image of {images} has a label. "
            'Each line needs the form {"id": image, "answer": correct answer}.'
        )
    return labels


def _structured(label: Any, reader: str) -> Any:
    """A label as JSON if the task answers in JSON and the label is JSON text."""
    if reader == "json" and isinstance(label, str):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(label)
    return label
