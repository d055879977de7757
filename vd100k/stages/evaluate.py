"""Ask the base model and the fine-tuned model about labelled images, and compare their answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rich.table import Table

from vd100k.boxes.box import Box
from vd100k.config.run import Run
from vd100k.config.stages import Evaluate
from vd100k.console import say, show
from vd100k.engines import commands
from vd100k.engines.serving import availability
from vd100k.errors import DataError
from vd100k.evaluation.boxes import locate, score_boxes
from vd100k.evaluation.certainty import Certainty, certainty, told, verdict
from vd100k.evaluation.labels import label_faults, read_labels
from vd100k.evaluation.metrics import Score, mean, score
from vd100k.evaluation.sides import sides
from vd100k.generation.progress import Progress
from vd100k.generation.run import ask_all
from vd100k.generation.work_items import unit_name
from vd100k.images.find import Selection, find_images
from vd100k.images.groups import as_fields
from vd100k.images.ignored import Ignored
from vd100k.io import jsonl
from vd100k.runs import charts
from vd100k.runs.leaked import record
from vd100k.runs.needs import Need, missing, raised
from vd100k.runs.summary import Summary, file_facts, folder_facts
from vd100k.runs.tracker import Tracker
from vd100k.similarity import leaks

TITLES = {
    "exact_match": "exact match",
    "valid_json": "valid JSON",
    "field_accuracy": "correct fields",
    "mean_iou": "mean IoU",
    "iou_over_half": "IoU over 0.5",
}
TABLE_ROWS = 100  # images in the table for W&B
CHART_IMAGES = 8  # images in the comparison chart


@dataclass(frozen=True)
class Comparison:
    """Labelled images with the answer of each side and its score; all keyed by image id."""

    images: dict[str, tuple[str, ...]]  # paths
    labels: dict[str, Any]
    answers: dict[str, dict[str, str]]  # by side
    boxes: dict[str, dict[str, list[Box]]]  # in the answers, by side; empty if the task does not ask for boxes
    scores: dict[str, dict[str, Score]]  # by side


def needs(run: Run, stage: Evaluate) -> Iterator[Need]:
    images, labels = str(stage.images), Path(str(stage.labels)).expanduser()
    found = find_images(images, Selection(group=run.group), run.image_folder, key=f"{run.key}.images")
    yield Need(raised(lambda: next(found)), Path(images).expanduser(), given=True)
    yield Need(lambda: label_faults(run, labels, images), labels, given=True)
    for part in sides(run, stage).values():
        if part.weights == "merged" and part.hardware.urls is None:
            text = f"{part.paths.merged}: the exported model is missing. Create it first: python run.py stage=export …"
            yield missing(part.paths.merged, text)
        if part.hardware.urls is not None or not part.paths.rows.exists():  # answers of a URL are not reused
            yield Need(partial(availability.faults, part))


def makes(run: Run, stage: Evaluate) -> list[Path]:
    return []


def plan(run: Run, stage: Evaluate) -> list[str]:
    """The server commands and the files of each side, and the labels."""
    lines = []
    for name, part in sides(run, stage).items():
        if part.hardware.urls is None:
            lines += [f"{name}: unless it is running already, start for the duration:"]
            lines += map(str, commands.replicas(part))
        lines.append(f"{name}: ask {part.served_name} about {part.images}, append rows to {part.paths.rows}")
    return [*lines, f"compare with {stage.labels}"]


def run(run: Run, stage: Evaluate, folder: Path, summary: Summary, tracker: Tracker) -> None:
    assert stage.images is not None
    assert stage.labels is not None
    labels = _not_leaked(run, stage, read_labels(run, stage.labels, stage.images), folder, summary)
    answers = _ask(run, stage, folder, labels, summary)
    ignored = Ignored()
    selection = Selection(group=run.group)
    found = find_images(stage.images, selection, run.image_folder, ignored=ignored)
    images = {image.id: image.paths for image in found}
    if ignored:
        say(str(ignored))
        summary.counts["ignored"] = ignored.total()
    boxes = locate(run, {id: paths[0] for id, paths in images.items()}, answers)
    scores = {name: _scores(labels, given, boxes.get(name)) for name, given in answers.items()}
    compared = Comparison(images, labels, answers, boxes, scores)
    rows, chart = stage.folder / f"{run.full_name}.compared.jsonl", stage.folder / f"{run.full_name}.compared.png"
    jsonl.write(rows, _rows(compared))
    charts.comparison(_chart_rows(compared), f"{run.model.name} on held-out images", chart)
    summary.metrics = {name: mean(list(given.values())).figures() for name, given in scores.items()}
    summary.certainty = certainty({name: list(given.values()) for name, given in scores.items()})
    _show(summary.metrics, summary.certainty, len(labels))
    say(f"every answer: {rows}, some of them with images: {chart}")
    summary.inputs = [
        file_facts(stage.labels, len(labels)),
        *(folder_facts(run.paths.merged) if "after" in answers else []),
    ]
    summary.outputs = [file_facts(rows, len(labels)), file_facts(chart)]
    tracker.table("answers", ["id", "image", "label", *answers], _worst_first(compared))


def _not_leaked(run: Run, stage: Evaluate, labels: dict[str, Any], folder: Path, summary: Summary) -> dict[str, Any]:
    """The labels of those images that the model was not trained on, as ``if_leaked`` says.

    Raises:
        DataError: images have leaked and this is refused, or no other image is left.
    """
    if "after" not in stage.sides:
        return labels
    found = find_images(str(stage.images), Selection(group=run.group), run.image_folder)
    held_out = [image for image in found if image.id in labels]
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


def _ask(
    run: Run, stage: Evaluate, folder: Path, labels: dict[str, Any], summary: Summary
) -> dict[str, dict[str, str]]:
    """The answers of each side by image id; the requests are counted in the summary."""
    answers = {}
    for name, part in sides(run, stage).items():
        progress = Progress(unit_name(part))
        try:
            # Other weights may be served at the same address under the same name since the last evaluation.
            identified = part.hardware.urls is None
            ask_all(part, stage.ask, folder / name, progress, only=labels, reuse=identified)
        finally:
            for key in ("images", "requests", "reused", "failed"):
                summary.counts[key] = summary.counts.get(key, 0) + progress.counts()[key]
        rows = jsonl.read_rows(part.paths.rows)
        answers[name] = {row["id"]: row["answer"] for row in rows if row.get("turn", 1) == 1}
    return answers


def _scores(labels: dict[str, Any], answers: dict[str, str], boxes: dict[str, list[Box]] | None) -> dict[str, Score]:
    if boxes is not None:
        return {id: score_boxes(boxes.get(id), label) for id, label in labels.items()}
    return {id: score(answers.get(id), label) for id, label in labels.items()}


def _rows(compared: Comparison) -> Iterator[jsonl.Row]:
    for id, label in compared.labels.items():
        given = {name: answers.get(id) for name, answers in compared.answers.items()}
        found = {name: boxes.get(id) for name, boxes in compared.boxes.items()}
        read = {name: None if some is None else [box.as_row() for box in some] for name, some in found.items()}
        yield {"id": id, **as_fields(compared.images[id]), "label": label, **given, **({"boxes": read} if read else {})}


def _worst_first(compared: Comparison) -> Iterator[list[Any]]:
    """The rows of a table: image, label and answers; the worst answers of the last side first."""
    last = list(compared.scores.values())[-1]
    for id in sorted(compared.labels, key=lambda id: last[id].field_accuracy)[:TABLE_ROWS]:
        label = compared.labels[id]
        text = label if isinstance(label, str) else json.dumps(label, ensure_ascii=False)
        yield [id, Path(compared.images[id][0]), text, *(answers.get(id) for answers in compared.answers.values())]


def _chart_rows(compared: Comparison) -> list[charts.Compared]:
    """The first labelled images that have an answer."""
    answered = {id for answers in compared.answers.values() for id in answers} & compared.labels.keys()
    return [
        charts.Compared(
            list(map(Path, compared.images[id])),
            {
                name: (answers.get(id), bool(compared.scores[name][id].exact_match))
                for name, answers in compared.answers.items()
            },
        )
        for id in islice((id for id in compared.images if id in answered), CHART_IMAGES)
    ]


def _show(metrics: dict[str, dict[str, float]], sure: Certainty, images: int) -> None:
    """Print the figures with their 95 % intervals, and whether a change of the exact matches is more than chance."""
    table = Table(title=f"{images} held-out images, with 95 % intervals", title_justify="left")
    table.add_column("")
    for name in [*metrics, "change"] if sure["changes"] else metrics:
        table.add_column(name, justify="right")
    for key, title in TITLES.items():
        if any(key not in figures for figures in metrics.values()):
            continue  # of another kind of label
        bounds = {side: sure["intervals"][side][key] for side in metrics}
        cells = [
            f"{100 * metrics[side][key]:.1f} % ({100 * low:.0f} to {100 * high:.0f})"
            for side, (low, high) in bounds.items()
        ]
        table.add_row(title, *cells, *([told(sure["changes"][key])] if sure["changes"] else []))
    show(table)
    if sure["changes"]:
        say(f"exact match, {' to '.join(metrics)}: {verdict(sure['changes']['exact_match'])}")
