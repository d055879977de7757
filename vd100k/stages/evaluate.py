"""Ask the base model and the fine-tuned model about labelled images, and compare their answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vd100k.cluster import serving
from vd100k.config.run import Run
from vd100k.config.stages import Evaluate
from vd100k.console import say
from vd100k.engines import commands
from vd100k.engines.serving import availability
from vd100k.evaluation import comparison, metrics
from vd100k.evaluation.comparison import Comparison
from vd100k.evaluation.labels import label_faults, read_columns, read_labels, slice_faults
from vd100k.evaluation.sides import others, sides
from vd100k.generation.progress import Progress
from vd100k.generation.run import ask_all
from vd100k.generation.work_items import unit_name
from vd100k.images.find import Selection, find_images
from vd100k.images.ignored import Ignored
from vd100k.io import jsonl
from vd100k.preference import judge as preference
from vd100k.runs import charts
from vd100k.runs.leaked import not_leaked
from vd100k.runs.needs import Need, images, missing
from vd100k.runs.summary import Summary, file_facts, folder_facts
from vd100k.runs.tracker import Tracker

CHART_IMAGES = 8  # images in the comparison chart
Answers = dict[str, dict[str, str]]  # by side and image id


class HeldOut(NamedTuple):
    """The evaluation of one task: the paths of its images and the labels, by image id, and where its logs go."""

    run: Run
    stage: Evaluate
    images: Mapping[str, tuple[str, ...]]
    labels: dict[str, Any]
    logs: Path


def needs(run: Run, stage: Evaluate) -> Iterator[Need]:
    labels = Path(str(stage.labels)).expanduser()
    yield images(str(stage.images), run, f"{run.key}.images")
    yield Need(lambda: label_faults(run, labels, str(stage.images)), labels, given=True)
    if stage.slices:
        yield Need(lambda: slice_faults(run, labels, stage.slices), labels, given=True)
    yield Need(lambda: metrics.faults(run.task), given=True)
    for part in sides(run, stage).values():
        if part.weights == "merged" and part.hardware.urls is None:
            text = f"{part.paths.merged}: the exported model is missing. Create it first: python run.py stage=export …"
            yield missing(part.paths.merged, text)
        if part.hardware.urls is not None or not part.paths.rows.exists():  # answers of a URL are not reused
            yield Need(partial(availability.faults, part))
    if judge := preference.asking(run, stage):
        yield Need(partial(availability.faults, judge))
    for other in others(run).values():
        yield from needs(*other)


def makes(run: Run, stage: Evaluate) -> list[Path]:
    return []


def plan(run: Run, stage: Evaluate) -> list[str]:
    """The server commands and the files of each side, and the labels; of other tasks, what is asked."""
    lines = []
    for name, part in sides(run, stage).items():
        if part.hardware.urls is None:
            lines += [f"{name}: unless it is running already, start for the duration:"]
            lines += map(str, commands.replicas(part)) if part.cluster.here else serving.placed(part)
        lines.append(f"{name}: ask {part.served_name} about {part.images}, append rows to {part.paths.rows}")
    lines.append(f"compare with {stage.labels}")
    if judge := preference.asking(run, stage):
        lines += serving.describe(judge)
        lines.append(f"judge: ask {judge.served_name} which answer is better, append replies to {judge.paths.rows}")
    for name, (other, evaluation) in others(run).items():
        for part in sides(other, evaluation).values():
            lines.append(f"{name}: ask {part.served_name} about {part.images}, append rows to {part.paths.rows}")
        lines.append(f"{name}: compare with {evaluation.labels}")
    return lines


def run(run: Run, stage: Evaluate, folder: Path, summary: Summary, tracker: Tracker) -> None:
    ignored = Ignored()
    own = _held_out(run, stage, folder, ignored, summary)
    tasks = {name: _held_out(*other, folder / name, ignored, summary) for name, other in others(run).items()}
    if ignored:
        say(str(ignored))
        summary.counts["ignored"] = ignored.total()
    answers = _ask([own, *tasks.values()], summary)
    compared, *rest = (
        comparison.compare(one.run, one.images, one.labels, given)
        for one, given in zip([own, *tasks.values()], answers, strict=True)
    )
    also = dict(zip(tasks, rest, strict=True))
    compared = preference.judged(run, stage, compared, folder / "judge", summary.counts)
    rows, chart = _path(own, "jsonl"), _path(own, "png")
    jsonl.write(rows, comparison.rows(compared))
    charts.comparison(charts.compared(compared, CHART_IMAGES), f"{run.model.name} on held-out images", chart)
    columns = read_columns(stage.labels, own.labels, stage.slices) if stage.labels and stage.slices else {}
    summary.metrics, summary.certainty = compared.figures, comparison.sure(compared, stage.slices, columns)
    comparison.show_figures(compared.figures, summary.certainty)
    say(f"every answer: {rows}, some of them with images: {chart}")
    summary.inputs = [
        file_facts(Path(str(stage.labels)), len(own.labels)),
        *(folder_facts(run.paths.merged) if "after" in compared.answers else []),
    ]
    summary.outputs = [file_facts(rows, len(own.labels)), file_facts(chart)]
    if also:
        _add_others(tasks, compared, also, summary)
    tracker.table("answers", ["id", "image", "label", *compared.answers], comparison.worst_first(compared))


def _held_out(run: Run, stage: Evaluate, logs: Path, ignored: Ignored, summary: Summary) -> HeldOut:
    """The images and labels of an evaluation, without images that have leaked."""
    assert stage.images is not None
    assert stage.labels is not None
    found = list(find_images(stage.images, Selection(group=run.group), run.image_folder, ignored=ignored))
    labels = not_leaked(run, stage, read_labels(run, stage.labels, stage.images), found, logs, summary)
    return HeldOut(run, stage, {image.id: image.paths for image in found}, labels, logs)


def _ask(tasks: list[HeldOut], summary: Summary) -> list[Answers]:
    """The answers about each task by side; one side after the other, whose servers start once."""
    answers: list[Answers] = [{} for _ in tasks]
    for side in sides(tasks[0].run, tasks[0].stage):
        with serving.shared() as servers:
            for given, one in zip(answers, tasks, strict=True):
                given[side] = _answers(one, sides(one.run, one.stage)[side], side, servers, summary)
    return answers


def _answers(one: HeldOut, part: Run, side: str, servers: serving.Servers, summary: Summary) -> dict[str, str]:
    """The answers of one side by image id; the requests are counted in the summary."""
    progress = Progress(unit_name(part), part.model.price)
    try:
        # Other weights may be served at the same address under the same name since the last evaluation.
        identified = part.hardware.urls is None
        ask_all(part, one.stage.ask, one.logs / side, progress, one.labels, identified, servers)
    finally:
        progress.add_to(summary.counts, "images")
    rows = jsonl.read_rows(part.paths.rows)
    return {row["id"]: row["answer"] for row in rows if row["id"] in one.labels and row.get("turn", 1) == 1}


def _add_others(
    tasks: Mapping[str, HeldOut], own: Comparison, also: Mapping[str, Comparison], summary: Summary
) -> None:
    """Write the answers about other tasks, and show what became of them."""
    for name, compared in also.items():
        rows = _path(tasks[name], "jsonl")
        jsonl.write(rows, comparison.rows(compared))
        summary.outputs.append(file_facts(rows, len(compared.labels)))
    summary.metrics["also"] = {name: compared.figures for name, compared in also.items()}
    summary.certainty["retention"] = comparison.retention(own, also)
    comparison.show_retention(summary.certainty["retention"])


def _path(one: HeldOut, suffix: str) -> Path:
    return one.stage.folder / f"{one.run.full_name}.compared.{suffix}"
