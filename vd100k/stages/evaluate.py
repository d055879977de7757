"""Ask the base model and the fine-tuned model about labelled images, and compare their answers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.config.stages import Evaluate
from vd100k.console import say
from vd100k.engines import commands
from vd100k.engines.serving import availability
from vd100k.evaluation import comparison
from vd100k.evaluation.boxes import locate
from vd100k.evaluation.certainty import certainty
from vd100k.evaluation.comparison import Comparison
from vd100k.evaluation.labels import label_faults, read_labels
from vd100k.evaluation.metrics import mean
from vd100k.evaluation.sides import sides
from vd100k.generation.progress import Progress
from vd100k.generation.run import ask_all
from vd100k.generation.work_items import unit_name
from vd100k.images.find import Selection, find_images
from vd100k.images.ignored import Ignored
from vd100k.io import jsonl
from vd100k.runs import charts
from vd100k.runs.leaked import not_leaked
from vd100k.runs.needs import Need, missing, raised
from vd100k.runs.summary import Summary, file_facts, folder_facts
from vd100k.runs.tracker import Tracker

CHART_IMAGES = 8  # images in the comparison chart


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
    ignored = Ignored()
    found = list(find_images(stage.images, Selection(group=run.group), run.image_folder, ignored=ignored))
    labels = not_leaked(run, stage, read_labels(run, stage.labels, stage.images), found, folder, summary)
    answers = _ask(run, stage, folder, labels, summary)
    images = {image.id: image.paths for image in found}
    if ignored:
        say(str(ignored))
        summary.counts["ignored"] = ignored.total()
    boxes = locate(run, {id: paths[0] for id, paths in images.items()}, answers)
    scores = {name: comparison.scores(labels, given, boxes.get(name)) for name, given in answers.items()}
    compared = Comparison(images, labels, answers, boxes, scores)
    rows, chart = stage.folder / f"{run.full_name}.compared.jsonl", stage.folder / f"{run.full_name}.compared.png"
    jsonl.write(rows, comparison.rows(compared))
    charts.comparison(_chart_rows(compared), f"{run.model.name} on held-out images", chart)
    summary.metrics = {name: mean(list(given.values())).figures() for name, given in scores.items()}
    summary.certainty = certainty({name: list(given.values()) for name, given in scores.items()})
    comparison.show_figures(summary.metrics, summary.certainty, len(labels))
    say(f"every answer: {rows}, some of them with images: {chart}")
    summary.inputs = [
        file_facts(stage.labels, len(labels)),
        *(folder_facts(run.paths.merged) if "after" in answers else []),
    ]
    summary.outputs = [file_facts(rows, len(labels)), file_facts(chart)]
    tracker.table("answers", ["id", "image", "label", *answers], comparison.worst_first(compared))


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
        answers[name] = {row["id"]: row["answer"] for row in rows if row["id"] in labels and row.get("turn", 1) == 1}
    return answers


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
