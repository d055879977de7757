"""The base and the tuned model asked about labelled images, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from vd100k import asking, commands
from vd100k.config import Evaluate, Run
from vd100k.console import console, say
from vd100k.errors import DataError
from vd100k.records import read, write_lines
from vd100k.scoring import score
from vd100k.summary import Summary, file_facts
from vd100k.tracking import track

NAMES = {"exact_match": "exact match", "valid_json": "valid JSON", "field_accuracy": "fields right"}


def plan(run: Run, stage: Evaluate) -> list[str]:
    lines = []
    for name, part in run.parts.items():
        if part.hardware.urls is None:
            lines += [f"{name}: unless it runs already, for the duration:", *map(str, commands.replicas(part))]
        lines.append(f"{name}: ask {part.served_name} about {part.images}, append rows to {part.paths.rows}")
    return [*lines, f"compare both with {stage.labels}"]


def run(run: Run, stage: Evaluate, folder: Path) -> Summary:
    assert stage.labels is not None
    labels = {row["id"]: row["answer"] for row in read(stage.labels)}
    if not labels:
        raise DataError(
            f'{stage.labels}: no labels there. One {{"id": image, "answer": what is right}} a line is expected.'
        )
    counts = {"images": len(labels), "requests": 0, "reused": 0, "failed": 0}
    answers: dict[str, dict[str, str]] = {}
    for name, part in run.parts.items():
        asked = asking.ask_all(part, folder / name)
        for key in ("requests", "reused", "failed"):
            counts[key] += getattr(asked, key)
        answers[name] = {row["id"]: row["answer"] for row in read(part.paths.rows)}
    metrics = {name: score((said.get(id), label) for id, label in labels.items()) for name, said in answers.items()}
    compared = stage.folder / f"{run.model.name}.compared.jsonl"
    write_lines(compared, [_side_by_side(id, label, answers) for id, label in labels.items()])
    with track(run, folder) as log:
        log({f"{name}/{key}": value for name, figures in metrics.items() for key, value in figures.items()})
    _show(metrics, len(labels))
    say(f"answer by answer: {compared}")
    return Summary("evaluate", counts=counts, metrics=metrics, outputs=[file_facts(compared, len(labels))])


def _side_by_side(id: str, label: Any, answers: dict[str, dict[str, str]]) -> dict[str, Any]:
    return {"id": id, "label": label, **{name: said.get(id) for name, said in answers.items()}}


def _show(metrics: dict[str, dict[str, float]], images: int) -> None:
    table = Table(title=f"{images} held-out images", title_justify="left")
    table.add_column("")
    for name in metrics:
        table.add_column(name, justify="right")
    for key, title in NAMES.items():
        table.add_row(title, *(f"{100 * figures[key]:.1f} %" for figures in metrics.values()))
    console.print(table)
