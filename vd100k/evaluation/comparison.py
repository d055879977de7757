"""The answers of an evaluation beside their labels: scored, as rows of a file, and as tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from vd100k.boxes.box import Box
from vd100k.config.run import Run, Task
from vd100k.console import say, show
from vd100k.evaluation import metrics
from vd100k.evaluation.boxes import locate
from vd100k.evaluation.certainty import Certainty, certainty, part, remembered, share, told, verdict
from vd100k.evaluation.metrics import Case, Scores
from vd100k.evaluation.slices import by_field, by_slice, columns, worst
from vd100k.images.groups import as_fields
from vd100k.io.jsonl import Row

TABLE_ROWS = 100  # images in the table for W&B
NAMED = 3  # worst fields in the terminal


@dataclass(frozen=True)
class Comparison:
    """Labelled images with the answer of each side and its score; all keyed by image id."""

    task: Task
    images: Mapping[str, tuple[str, ...]]  # paths
    labels: dict[str, Any]
    answers: dict[str, dict[str, str]]  # by side
    boxes: dict[str, dict[str, list[Box]]]  # in the answers, by side; empty if the task does not ask for boxes
    scores: dict[str, dict[str, Scores]]  # by side

    @property
    def main(self) -> str:
        """The metric that the result goes by."""
        return metrics.main(self.task)

    @property
    def shown(self) -> list[str]:
        """The metrics of its tables: those of the task, and what a judge prefers."""
        first: Mapping[str, float] = next(iter(next(iter(self.scores.values())).values()), {})
        return [*metrics.chosen(self.task), *([metrics.JUDGED] if metrics.JUDGED in first else [])]

    @property
    def figures(self) -> dict[str, Scores]:
        """The means of each side."""
        return {side: metrics.mean(list(found.values())) for side, found in self.scores.items()}

    def values(self, name: str) -> dict[str, dict[str, float]]:
        """One figure of each image, by side and image id."""
        return {side: {id: scores[name] for id, scores in found.items()} for side, found in self.scores.items()}


def compare(
    run: Run, images: Mapping[str, tuple[str, ...]], labels: dict[str, Any], answers: dict[str, dict[str, str]]
) -> Comparison:
    """The answers of each side compared with the labels."""
    task = run.task
    boxes = locate(run, {id: paths[0] for id, paths in images.items()}, answers)
    names = metrics.chosen(task)
    scores = {
        side: {
            id: metrics.score(Case(given.get(id), label, task.reader, boxes.get(side, {}).get(id)), names)
            for id, label in labels.items()
        }
        for side, given in answers.items()
    }
    return Comparison(task, images, labels, answers, boxes, scores)


def sure(compared: Comparison, slices: list[str], given: Mapping[str, Mapping[str, Any]]) -> Certainty:
    """How far the figures can be trusted, and those of fields and slices; ``given`` are columns of the labels."""
    found = certainty({side: list(scores.values()) for side, scores in compared.scores.items()})
    found |= {"main": compared.main, "shown": compared.shown}
    if compared.task.reader == "json" and (fields := by_field(compared.labels, compared.answers)):
        found["fields"] = fields
    if slices and compared.labels:
        paths = {id: paths[0] for id, paths in compared.images.items()}
        cut = columns(slices, given, compared.labels, paths)
        found["slices"] = by_slice(cut, compared.values(compared.main))
    return found


def retention(own: Comparison, others: Mapping[str, Comparison]) -> list[Certainty]:
    """The main figure of the run's task and of each other one, with what its change means in words."""
    rows = []
    for name, one in {own.task.name: own, **others}.items():
        values = {side: list(found.values()) for side, found in one.values(one.main).items()}
        row = part(f"{name}: {metrics.title(one.main)}", values)
        words = verdict if one is own else remembered
        said = words(row["change"]) if row["change"] else ""
        rows.append(row | {"task": name, "main": one.main, "verdict": said})
    return rows


def rows(compared: Comparison) -> Iterator[Row]:
    """The rows of the file of all answers, with their scores."""
    for id, label in compared.labels.items():
        given = {name: answers.get(id) for name, answers in compared.answers.items()}
        found = {name: boxes.get(id) for name, boxes in compared.boxes.items()}
        read = {name: None if some is None else [box.as_row() for box in some] for name, some in found.items()}
        scores = {name: {key: round(v, 4) for key, v in by_id[id].items()} for name, by_id in compared.scores.items()}
        boxes = {"boxes": read} if read else {}
        yield {"id": id, **as_fields(compared.images[id]), "label": label, **given, **boxes, "scores": scores}


def worst_first(compared: Comparison) -> Iterator[list[Any]]:
    """The rows of a table: image, label and answers; the worst answers of the last side first."""
    last = list(compared.values(compared.main).values())[-1]
    for id in sorted(compared.labels, key=lambda id: last[id])[:TABLE_ROWS]:
        label = compared.labels[id]
        text = label if isinstance(label, str) else json.dumps(label, ensure_ascii=False)
        yield [id, Path(compared.images[id][0]), text, *(answers.get(id) for answers in compared.answers.values())]


def show_figures(figures: Mapping[str, Mapping[str, float]], known: Certainty) -> None:
    """Print the figures with their 95 % intervals, whether the change is more than chance, and the worst parts."""
    table = Table(title=f"{known['images']} held-out images, with 95 % intervals", title_justify="left")
    table.add_column("")
    for name in [*figures, "change"] if known["changes"] else figures:
        table.add_column(name, justify="right")
    for key in known["shown"]:
        cells = [share(figures[side].get(key, 0.0), known["intervals"][side].get(key)) for side in figures]
        table.add_row(metrics.title(key), *cells, *([told(known["changes"][key])] if known["changes"] else []))
    show(table)
    main = known["main"]
    if known["changes"]:
        say(f"{metrics.title(main)}, {' to '.join(figures)}: {verdict(known['changes'][main])}")
    say_worst(figures, known)


def say_worst(figures: Mapping[str, Mapping[str, float]], known: Certainty) -> None:
    """A line about the worst fields, and one about the worst slices."""
    side = list(figures)[-1]
    fields = [one for one in known.get("fields", []) if one["figures"][side] < 1][:NAMED]
    if fields:
        say(f"worst fields, {side}: " + "; ".join(f"{one['name']} {_told(one, side)}" for one in fields))
    if "slices" not in known:
        return
    main = known["main"]
    found = worst(known["slices"], figures[side][main])
    told = [
        f"{column} {one['name']} {_told(one, side)} of {one['images']} images{'' if clear else ', which may be chance'}"
        for column, one, clear in found
    ]
    named = "; ".join(told) or "none is worse than all images together, or each has too few images"
    say(f"worst slices, {metrics.title(main)} {side}: {named}")


def show_retention(rows: list[Certainty]) -> None:
    """Print the table of all tasks, and what became of those that were not trained on."""
    sides = list(rows[0]["figures"])
    table = Table(title="What else the model can do, with 95 % intervals", title_justify="left")
    for name in ("", "images", *sides, "change"):
        table.add_column(name)
    for row in rows:
        cells = [share(row["figures"][side], row["intervals"][side]) for side in sides]
        table.add_row(escape(row["name"]), f"{row['images']:,}", *cells, row["verdict"])
    show(table)


def _told(one: Certainty, side: str) -> str:
    return share(one["figures"][side], one["intervals"][side], 0)
