"""The labels of held-out images: what is correct."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from vd100k.boxes.box import BoxError, from_row
from vd100k.config.run import Run
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.evaluation import slices
from vd100k.images.find import Selection, find_images
from vd100k.images.groups import joined, names
from vd100k.io import tables
from vd100k.io.jsonl import Fault, Row

FORM = 'Each line needs the form {"id": image, "answer": correct answer}.'
BOXES_FORM = 'Each line needs the form {"id": image, "boxes": [{"label": text, "box": [x1, y1, x2, y2]}, …]}.'
FIRST_ROWS = 50  # that are examined before an evaluation


def read_labels(run: Run, path: Path, images: str) -> dict[str, Any]:
    """The label of each image, by image id; ``limit`` restricts them to the first images."""
    asked = _asked(run, images)
    labels: dict[str, Any] = {}
    for number, row in tables.read(path):
        if isinstance(row, Fault):
            say(f"{path}, line {number} is skipped: {row.detail}")
            continue
        if (found := _label(row, run.task.reader)) and found[0] in asked:
            labels[found[0]] = _structured(found[1], run.task.reader)
    return labels


def read_columns(path: Path, ids: Collection[str], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The values of other columns of the labels by column and image id; of columns that some row has."""
    columns: dict[str, dict[str, Any]] = {}
    for _, row in tables.read(path):
        id = None if isinstance(row, Fault) else _id(row)
        if isinstance(id, str) and id in ids and not isinstance(row, Fault):
            for name in names:
                if name in row:
                    columns.setdefault(name, {}).update({id: row[name]})
    return {name: dict.fromkeys(ids) | values for name, values in columns.items()}


def slice_faults(run: Run, path: Path, names: Iterable[str]) -> Iterator[str]:
    """A sentence about each name to slice by that is neither a column of the labels nor a field of one."""
    reader = run.task.reader
    with contextlib.suppress(DataError):  # a file that cannot be read is a fault of its own
        rows = [row for _, row in tables.read(path) if not isinstance(row, Fault)]
        labelled = [(row, _structured(found[1], reader)) for row in rows if (found := _label(row, reader))]
        yield from (f"{run.key}.slices contains {fault}" for fault in slices.unknown(names, labelled))


def label_faults(run: Run, path: Path, images: str) -> Iterator[str]:
    """What keeps all labels from being used, with the remedy: found without reading more than it takes."""
    reader = run.task.reader
    form = BOXES_FORM if reader == "boxes" else FORM
    if not path.exists():
        yield f"{run.key}.labels={path}: no such file. {form}"
        return
    try:
        first = [row for _, row in islice(tables.read(path), FIRST_ROWS)]
    except DataError as error:
        yield str(error)
        return
    rows = [row for row in first if not isinstance(row, Fault)]
    if not any(_label(row, reader) for row in rows):
        columns = f" The first row has {', '.join(map(str, list(rows[0])[:20]))}." if rows else ""
        yield f"{run.key}.labels={path}: none of its first {len(first)} lines is a label.{columns} {form}"
        return
    with contextlib.suppress(DataError):  # without images, that is the problem to report
        asked = _asked(run, images)
        labels = (_label(row, reader) for _, row in tables.read(path) if not isinstance(row, Fault))
        if not any(label and label[0] in asked for label in labels):
            example = next(iter(asked))
            yield f"{run.key}.labels={path}: no image of {images} has a label; the first image has the id {example}."


def _asked(run: Run, images: str) -> dict[str, None]:
    """The ids of the held-out images that are asked about, in their order."""
    selection = Selection(run.limit, group=run.group)
    return dict.fromkeys(image.id for image in find_images(images, selection, run.image_folder))


def _label(row: Row, reader: str) -> tuple[str, Any] | None:
    """The image or group and its correct answer, which Roboflow calls image and suffix; None if one is missing.

    Several correct answers are a list, which data sets of questions call answers. For a task that asks for boxes, the
    correct answer is the ``boxes`` of the row.
    """
    id, label = _id(row), row.get("answer", row.get("suffix", row.get("answers")))
    if reader == "boxes":
        label = _boxes(row.get("boxes"))
    return (id, label) if isinstance(id, str) and id and label is not None else None


def _id(row: Row) -> Any:
    return row.get("id") or joined(names(row))


def _boxes(value: object) -> list[Row] | None:
    try:
        return [box.as_row() for box in from_row(value)]
    except BoxError:
        return None


def _structured(label: Any, reader: str) -> Any:
    """A label as JSON if the task answers in JSON and the label is JSON text."""
    if reader == "json" and isinstance(label, str):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(label)
    return label
