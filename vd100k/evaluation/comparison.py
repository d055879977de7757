"""The answers of an evaluation beside their labels: scored, as rows of a file, and as tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from vd100k.boxes.box import Box
from vd100k.console import say, show
from vd100k.evaluation.boxes import score_boxes
from vd100k.evaluation.certainty import Certainty, share, told, verdict
from vd100k.evaluation.metrics import TITLES, Score, score
from vd100k.images.groups import as_fields
from vd100k.io.jsonl import Row

TABLE_ROWS = 100  # images in the table for W&B


@dataclass(frozen=True)
class Comparison:
    """Labelled images with the answer of each side and its score; all keyed by image id."""

    images: dict[str, tuple[str, ...]]  # paths
    labels: dict[str, Any]
    answers: dict[str, dict[str, str]]  # by side
    boxes: dict[str, dict[str, list[Box]]]  # in the answers, by side; empty if the task does not ask for boxes
    scores: dict[str, dict[str, Score]]  # by side


def scores(labels: dict[str, Any], answers: dict[str, str], boxes: dict[str, list[Box]] | None) -> dict[str, Score]:
    """The score of each labelled image, by its boxes if the task asks for boxes."""
    if boxes is not None:
        return {id: score_boxes(boxes.get(id), label) for id, label in labels.items()}
    return {id: score(answers.get(id), label) for id, label in labels.items()}


def rows(compared: Comparison) -> Iterator[Row]:
    """The rows of the file of all answers."""
    for id, label in compared.labels.items():
        given = {name: answers.get(id) for name, answers in compared.answers.items()}
        found = {name: boxes.get(id) for name, boxes in compared.boxes.items()}
        read = {name: None if some is None else [box.as_row() for box in some] for name, some in found.items()}
        yield {"id": id, **as_fields(compared.images[id]), "label": label, **given, **({"boxes": read} if read else {})}


def worst_first(compared: Comparison) -> Iterator[list[Any]]:
    """The rows of a table: image, label and answers; the worst answers of the last side first."""
    last = list(compared.scores.values())[-1]
    for id in sorted(compared.labels, key=lambda id: last[id].field_accuracy)[:TABLE_ROWS]:
        label = compared.labels[id]
        text = label if isinstance(label, str) else json.dumps(label, ensure_ascii=False)
        yield [id, Path(compared.images[id][0]), text, *(answers.get(id) for answers in compared.answers.values())]


def show_figures(metrics: dict[str, dict[str, float]], sure: Certainty, images: int) -> None:
    """Print the figures with their 95 % intervals, and whether a change of the exact matches is more than chance."""
    table = Table(title=f"{images} held-out images, with 95 % intervals", title_justify="left")
    table.add_column("")
    for name in [*metrics, "change"] if sure["changes"] else metrics:
        table.add_column(name, justify="right")
    for key, title in TITLES.items():
        if any(key not in figures for figures in metrics.values()):
            continue  # of another kind of label
        cells = [share(metrics[side][key], sure["intervals"][side][key]) for side in metrics]
        table.add_row(title, *cells, *([told(sure["changes"][key])] if sure["changes"] else []))
    show(table)
    if sure["changes"]:
        say(f"exact match, {' to '.join(metrics)}: {verdict(sure['changes']['exact_match'])}")
