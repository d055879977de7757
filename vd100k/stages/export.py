"""Merge a trained adapter into its base model with ``swift export``; every engine can load the resulting folder."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.config.stages import Export
from vd100k.console import say, waiting
from vd100k.engines import commands
from vd100k.engines.process import Child
from vd100k.errors import TrainingError
from vd100k.io import fingerprint
from vd100k.io.atomic import write_json
from vd100k.models import model_folder
from vd100k.runs.needs import Need, missing
from vd100k.runs.summary import Summary, folder_facts
from vd100k.runs.tracker import Tracker

POLL_S = 0.2


def needs(run: Run, stage: Export) -> Iterator[Need]:
    text = f"{stage.adapter}: the adapter does not exist. Train it first: python run.py stage=finetune …"
    yield missing(stage.adapter, text, given=stage.adapter != run.paths.adapter)
    if not stage.folder.exists():  # an unchanged model is reused
        yield Need(commands.swift_faults)


def makes(run: Run, stage: Export) -> list[Path]:
    return [stage.folder]


def plan(run: Run, stage: Export) -> list[str]:
    return [str(commands.export(stage, stage.folder))]


def run(run: Run, stage: Export, folder: Path, summary: Summary, tracker: Tracker) -> None:
    model_folder.ensure(run, trains=True)
    model_folder.refuse_code(run, {**stage.args, "adapter": stage.adapter})
    mark = stage.folder.with_name(f"{stage.folder.name}.json")
    inputs = [fingerprint.of_model(str(stage.adapter.resolve())), run.model.path, stage.args, stage.env]
    wanted = {"fingerprint": fingerprint.of(inputs)}
    if stage.folder.exists() and _made_from(mark) == wanted:
        say(f"reusing the merged model: {stage.folder}")
        tracker.disable()
    else:
        mark.unlink(missing_ok=True)
        _merge(stage, folder)
        write_json(mark, wanted)
        say(f"merged the adapter into {run.model.name}: {stage.folder}")
    summary.inputs = folder_facts(stage.adapter)
    summary.outputs = folder_facts(stage.folder)
    summary.counts["model_bytes"] = sum(file.stat().st_size for file in stage.folder.rglob("*") if file.is_file())


def _made_from(mark: Path) -> Any:
    """What a merged model was made from; None if that is unknown, as after a power cut."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(mark.read_text(encoding="utf-8"))
    return None


def _merge(stage: Export, folder: Path) -> None:
    """Merge into a temporary folder, which gets the final name only when it is complete."""
    scratch = stage.folder.with_name(f"{stage.folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    with Child(commands.export(stage, scratch), folder / "swift-export.log") as child, waiting("merging"):
        while child.exit_code() is None:
            child.wait(POLL_S)
        if child.exit_code():
            raise TrainingError(child.last_words("swift export"))
    shutil.rmtree(stage.folder, ignore_errors=True)
    scratch.rename(stage.folder)
