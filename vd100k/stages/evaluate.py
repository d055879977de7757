"""The base and the tuned model, or one of them, asked about labelled images, side by side."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rich.table import Table

from vd100k.config.run import Run
from vd100k.config.stages import Evaluate
from vd100k.console import say, show
from vd100k.engines import commands
from vd100k.errors import DataError
from vd100k.evaluation.metrics import Score, judge, mean
from vd100k.generation import run as asking
from vd100k.generation.ledger import read, write_lines
from vd100k.generation.progress import Counts
from vd100k.images.find import Selection, find
from vd100k.io import jsonl as lines
from vd100k.runs import charts as figures
from vd100k.runs.summary import Summary, file_facts, folder_facts
from vd100k.runs.tracker import Tracker

NAMES = {"exact_match": "exact match", "valid_json": "valid JSON", "field_accuracy": "fields right"}
TABLED = 100  # images in the table for W&B
SHOWN = 8  # images in the picture of the comparison

Answers = dict[str, str]  # by image id


def plan(run: Run, stage: Evaluate) -> list[str]:
    planned = []
    for name, part in run.parts.items():
        if part.hardware.urls is None:
            planned += [f"{name}: unless it runs already, for the duration:", *map(str, commands.replicas(part))]
        planned.append(f"{name}: ask {part.served_name} about {part.images}, append rows to {part.paths.rows}")
    return [*planned, f"compare with {stage.labels}"]


def run(run: Run, stage: Evaluate, folder: Path, summary: Summary, tracker: Tracker) -> None:
    labels = _labels(run, stage)
    answers: dict[str, Answers] = {}
    for name, part in run.parts.items():
        counts = Counts()
        try:
            asking.ask_all(part, folder / name, counts, only=labels)
        finally:
            for key in ("images", "requests", "reused", "failed"):
                summary.counts[key] = summary.counts.get(key, 0) + getattr(counts, key)
        answers[name] = {row["id"]: row["answer"] for row in read(part.paths.rows)}
    scores = {name: {id: judge(said.get(id), label) for id, label in labels.items()} for name, said in answers.items()}
    summary.metrics = {name: mean(list(judged.values()))._asdict() for name, judged in scores.items()}
    images = {picture.id: picture.path for picture in find(str(stage.images), image_folder=run.image_folder)}
    compared = stage.folder / f"{run.full_name}.compared.jsonl"
    write_lines(
        compared,
        [
            {"id": id, "image": images[id], "label": label, **{n: said.get(id) for n, said in answers.items()}}
            for id, label in labels.items()
        ],
    )
    picture = _draw(run, stage, images, answers, scores)
    _show(summary.metrics, len(labels))
    say(f"answer by answer: {compared}, some of them drawn: {picture}")
    assert stage.labels is not None
    summary.inputs = [
        file_facts(stage.labels, len(labels)),
        *(folder_facts(run.paths.merged) if "after" in answers else []),
    ]
    summary.outputs = [file_facts(compared, len(labels)), file_facts(picture)]
    tracker.table("answers", ["id", "image", "label", *answers], _worst_first(images, labels, answers, scores))


def _worst_first(
    images: dict[str, str], labels: dict[str, Any], answers: dict[str, Answers], scores: dict[str, dict[str, Score]]
) -> Iterator[list[Any]]:
    """The rows of a table: image, label and answers, those first that the tuned model got wrong."""
    last = list(scores)[-1]
    for id in sorted(labels, key=lambda id: scores[last][id].field_accuracy)[:TABLED]:
        label = labels[id] if isinstance(labels[id], str) else json.dumps(labels[id], ensure_ascii=False)
        yield [id, Path(images[id]), label, *(said.get(id) for said in answers.values())]


def _labels(run: Run, stage: Evaluate) -> dict[str, Any]:
    """What is right, by image id; with ``limit``, for the first images alone."""
    assert stage.labels is not None
    assert stage.images is not None
    asked = {picture.id for picture in find(stage.images, Selection(run.limit), run.image_folder)}
    labels: dict[str, Any] = {}
    for _, row in lines.read(stage.labels):
        if isinstance(row, lines.Fault):
            say(f"{stage.labels}: a line is passed over: {row.detail}")
            continue
        # Roboflow's names for them: image and suffix.
        id, label = row.get("id", row.get("image")), row.get("answer", row.get("suffix"))
        if isinstance(id, str) and id in asked and label is not None:
            labels[id] = _structured(label, run.task.reader)
    if not labels:
        raise DataError(
            f"{stage.labels}: no label for any image of {stage.images}. "
            'One {"id": image, "answer": what is right} a line is expected.'
        )
    return labels


def _structured(label: Any, reader: str) -> Any:
    """A label as JSON where the task answers in JSON and the label was kept as text."""
    if reader == "json" and isinstance(label, str):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(label)
    return label


def _draw(
    run: Run, stage: Evaluate, images: dict[str, str], answers: dict[str, Answers], scores: dict[str, dict[str, Score]]
) -> Path:
    """The first images with their answers before and after, as PNG."""
    path = stage.folder / f"{run.full_name}.compared.png"
    answered = {id for said in answers.values() for id in said}
    labelled = answered & next(iter(scores.values())).keys()
    rows = [
        figures.Compared(Path(images[id]), {n: (answers[n].get(id), bool(scores[n][id].exact_match)) for n in scores})
        for id in islice((id for id in images if id in labelled), SHOWN)
    ]
    figures.comparison(rows, f"{run.model.name} on held-out images", path)
    return path


def _show(metrics: dict[str, dict[str, float]], images: int) -> None:
    table = Table(title=f"{images} held-out images", title_justify="left")
    table.add_column("")
    for name in metrics:
        table.add_column(name, justify="right")
    for key, title in NAMES.items():
        table.add_row(title, *(f"{100 * figures[key]:.1f} %" for figures in metrics.values()))
    show(table)
