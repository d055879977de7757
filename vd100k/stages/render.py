"""Draw pictures with known labels, in a training and a held-out set."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from vd100k.config.run import Run
from vd100k.config.stages import Render
from vd100k.console import say
from vd100k.io import jsonl
from vd100k.io.atomic import write_json
from vd100k.io.jsonl import Row
from vd100k.runs.needs import Need, images
from vd100k.runs.summary import Summary, file_facts
from vd100k.runs.tracker import Tracker

MARK = "render.json"
# The folder of the pictures and the file of their labels, by kind and set.
LOCATIONS = {
    "scenes": {"train": ("train", "train.jsonl"), "heldout": ("heldout", "heldout.jsonl")},
    "manifests": {"train": ("train", "train/annotations.jsonl"), "heldout": ("test", "test/annotations.jsonl")},
}


def needs(run: Run, stage: Render) -> Iterator[Need]:
    if _draws(run, stage):
        yield Need(lambda: _foreign_files(run, stage))
    else:
        yield images(str(run.images), run)


def makes(run: Run, stage: Render) -> list[Path]:
    return [stage.folder] if _draws(run, stage) else []


def plan(run: Run, stage: Render) -> list[str]:
    if not _draws(run, stage):
        return [f"use the images in {run.images} as they are"]
    folders = {name: stage.folder / folder for name, (folder, _) in LOCATIONS[stage.what].items()}
    return [f"draw {stage.train} {stage.what} into {folders['train']} and {stage.heldout} into {folders['heldout']}"]


def run(run: Run, stage: Render, folder: Path, summary: Summary, tracker: Tracker) -> None:
    from vd100k.tiny import manifests, scenes

    draw = {"scenes": scenes.draw, "manifests": manifests.draw}[stage.what]
    counts = {"train": stage.train, "heldout": stage.heldout}
    wanted = {**counts, "seed": stage.seed}
    if not _draws(run, stage):
        say(f"images={run.images} are your own pictures: nothing is drawn")
        return
    if (stage.folder / MARK).exists() and json.loads((stage.folder / MARK).read_text(encoding="utf-8")) == wanted:
        say(f"reusing {sum(counts.values())} pictures: {stage.folder}")
        tracker.disable()
    else:
        stage.folder.mkdir(parents=True, exist_ok=True)
        write_json(stage.folder / MARK, {})  # marks the folder as incomplete
        for k, (name, (subfolder, labels)) in enumerate(LOCATIONS[stage.what].items()):
            shutil.rmtree(stage.folder / subfolder, ignore_errors=True)
            (stage.folder / subfolder).mkdir()
            rows = _draw(draw, counts[name], 2 * stage.seed + k, stage.folder / subfolder)
            jsonl.write(stage.folder / labels, rows if stage.what == "scenes" else list(map(_roboflow, rows)))
        write_json(stage.folder / MARK, wanted)
        say(f"drew {stage.train} training pictures and {stage.heldout} held-out pictures: {stage.folder}")
    summary.counts = counts
    summary.outputs = [file_facts(stage.folder / LOCATIONS[stage.what][name][1], counts[name]) for name in counts]


def _draws(run: Run, stage: Render) -> bool:
    """Whether the run's images, if it has any, are those that this stage draws, and not the user's own."""
    if run.images is None:
        return True
    drawn = [stage.folder, *(stage.folder / subfolder for subfolder, _ in LOCATIONS[stage.what].values())]
    return Path(run.images).expanduser().resolve() in [folder.resolve() for folder in drawn]


def _foreign_files(run: Run, stage: Render) -> list[str]:
    """A sentence if the folder contains files that this stage did not draw, and would delete."""
    if not stage.folder.exists() or (stage.folder / MARK).exists() or not any(stage.folder.iterdir()):
        return []
    return [
        f"{stage.folder}: the folder contains files that this stage did not draw and will not overwrite. "
        f"Set {run.key}.folder=FOLDER to draw into another one, or images=FOLDER to use your own images."
    ]


def _draw(draw: Callable[[random.Random], tuple[Image.Image, Any]], count: int, seed: int, folder: Path) -> list[Row]:
    """Draw ``count`` pictures into ``folder`` and return their labels."""
    rng, rows = random.Random(seed), []
    for k in range(count):
        image, subject = draw(rng)
        image.save(folder / f"{k:05d}.png")
        rows.append({"id": f"{k:05d}.png", "answer": dataclasses.asdict(subject)})
    return rows


def _roboflow(row: Row) -> Row:
    """A label in Roboflow's JSONL format."""
    return {"image": row["id"], "prefix": "<JSON>", "suffix": json.dumps(row["answer"])}
