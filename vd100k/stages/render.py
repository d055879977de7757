"""Draw pictures with true labels: some to train on, some held out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from vd100k.config import Render, Run
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.records import write_json, write_lines
from vd100k.summary import Summary, file_facts


def plan(run: Run, stage: Render) -> list[str]:
    return [f"draw {stage.train} pictures into {stage.folder}/train and {stage.heldout} into {stage.folder}/heldout"]


def run(run: Run, stage: Render, folder: Path, summary: Summary) -> None:
    from vd100k.tiny import scenes

    counts = {"train": stage.train, "heldout": stage.heldout}
    mark, wanted = stage.folder / "render.json", {**counts, "seed": stage.seed}
    labels = {name: stage.folder / f"{name}.jsonl" for name in counts}
    if mark.exists() and json.loads(mark.read_text(encoding="utf-8")) == wanted:
        say(f"reusing {sum(counts.values())} pictures: {stage.folder}")
    else:
        if stage.folder.exists() and not mark.exists() and any(stage.folder.iterdir()):
            raise DataError(f"{stage.folder}: holds something else. Draw into another folder: {run.key}.folder=FOLDER")
        stage.folder.mkdir(parents=True, exist_ok=True)
        write_json(mark, {})  # until all are drawn
        for name, seed in (("train", 2 * stage.seed), ("heldout", 2 * stage.seed + 1)):
            shutil.rmtree(stage.folder / name, ignore_errors=True)
            (stage.folder / name).mkdir()
            rows = []
            for k, (image, label) in enumerate(scenes.render(counts[name], seed)):
                id = f"{k:05d}.png"
                image.save(stage.folder / name / id)
                rows.append({"id": id, "answer": label})
            write_lines(labels[name], rows)
        write_json(mark, wanted)
        say(f"drew {stage.train} pictures to train on and {stage.heldout} held out: {stage.folder}")
    summary.counts = counts
    summary.outputs = [file_facts(labels[name], counts[name]) for name in counts]
