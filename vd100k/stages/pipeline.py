"""Run several stages in order; each reads the files of the earlier ones."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from vd100k import stages
from vd100k.config.run import Run
from vd100k.config.stages import Evaluate, Pipeline
from vd100k.console import say
from vd100k.errors import DataError, Vd100kError
from vd100k.evaluation.sides import others
from vd100k.generation.work_items import selection
from vd100k.images.find import Selection, find_images
from vd100k.runs import closing
from vd100k.runs.leaked import record
from vd100k.runs.summary import Summary
from vd100k.runs.tracker import Tracker
from vd100k.similarity import leaks

STAGES_WITH_METRICS = ("finetune", "evaluate")  # their metrics are also those of the pipeline


def plan(run: Run, stage: Pipeline) -> list[str]:
    lines: list[str] = []
    for number, (name, part) in enumerate(run.parts.items(), start=1):
        lines += [f"{number}. {name}", *(f"   {line}" for line in stages.plan(part)), ""]
    return lines[:-1]


def run(run: Run, stage: Pipeline, folder: Path, summary: Summary, tracker: Tracker) -> None:
    tracker.disable()  # its steps are tracked instead
    _refuse_leaks(run, stage.evaluate, folder, summary)
    for number, (name, part) in enumerate(run.parts.items(), start=1):
        say(f"\n[{number}/{len(run.parts)}] {name}")
        done = Summary(name)
        try:
            stages.execute(part.in_group(folder.name), folder / f"{number}-{name}", [], done)
        except Vd100kError:
            say(closing.failed_step(name, number, len(run.parts), sys.argv))
            raise
        finally:
            summary.steps.append(asdict(done))
            for key in ("requests", "reused", "failed"):
                summary.counts[key] = summary.counts.get(key, 0) + done.counts.get(key, 0)
        summary.inputs += done.inputs
        summary.outputs += done.outputs
        if name in STAGES_WITH_METRICS:
            summary.metrics |= done.metrics
            summary.certainty |= done.certainty
    say(f"\n{closing.asked(summary)}Output:")
    for output in summary.outputs:
        say(f"  {output['path']}")
    if stage.closing:
        say(f"\n{stage.closing.rstrip()}")


def _refuse_leaks(run: Run, stage: Evaluate, folder: Path, summary: Summary) -> None:
    """Refuse before the first request what the evaluation would refuse at the end: held-out images among the others.

    Raises:
        DataError: some are; the message names them.
    """
    evaluation, images = run.parts.get("evaluate"), str(run.images)
    if "generate" not in run.parts or not evaluation or "after" not in stage.sides or stage.if_leaked != "refuse":
        return
    evaluations = [(evaluation, stage), *others(evaluation).values()]
    held_out = {
        one.key: (str(settings.images), list(find_images(str(settings.images), asked, run.image_folder)))
        for asked in [Selection(run.limit, group=run.group)]
        for one, settings in evaluations
        if all(Path(path).expanduser().exists() for path in (images, str(settings.images)))  # or a step draws them
    }
    if not held_out:
        return
    among = find_images(images, selection(run.parts["generate"]), run.image_folder)
    every = [image for _, asked in held_out.values() for image in asked]
    found = leaks.find(every, (path for image in among for path in image.paths), run.looks)
    for key, (name, asked) in held_out.items():
        own = {(image.id, path) for image in asked for path in image.paths}
        if leaked := [leak for leak in found if (leak.id, leak.path) in own]:
            pairs = record(leaked, folder, summary)
            raise DataError(leaks.message(leaked, len(asked), key, name, pairs))
