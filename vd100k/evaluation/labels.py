"""The labels of held-out images: what is correct."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.images.find import Selection, find_images
from vd100k.io import tables
from vd100k.io.jsonl import Fault, Row

FORM = 'Each line needs the form {"id": image, "answer": correct answer}.'
FIRST_ROWS = 50  # that are examined before an evaluation


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
        id, label = _label(row)
        if isinstance(id, str) and id in asked and label is not None:
            labels[id] = _structured(label, run.task.reader)
    if not labels:
        raise DataError(f"{path}: no image of {images} has a label. {FORM}")
    return labels


def label_faults(path: Path, stage_key: str) -> Iterator[str]:
    """What keeps all labels from being read, with the remedy; only the first rows are examined."""
    if not path.exists():
        yield f"{stage_key}.labels={path}: no such file. {FORM}"
        return
    try:
        first = [row for _, row in islice(tables.read(path), FIRST_ROWS)]
    except DataError as error:
        yield str(error)
        return
    rows = [row for row in first if not isinstance(row, Fault)]
    if not any(isinstance(id, str) and label is not None for id, label in map(_label, rows)):
        columns = f" The first row has {', '.join(map(str, list(rows[0])[:20]))}." if rows else ""
        yield f"{stage_key}.labels={path}: none of its first {len(first)} lines is a label.{columns} {FORM}"


def _label(row: Row) -> tuple[Any, Any]:
    """The image and its correct answer; Roboflow calls them image and suffix."""
    return row.get("id", row.get("image")), row.get("answer", row.get("suffix"))


def _structured(label: Any, reader: str) -> Any:
    """A label as JSON if the task answers in JSON and the label is JSON text."""
    if reader == "json" and isinstance(label, str):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(label)
    return label
