"""The result of a comparison as it is kept: what it is about, what decides it, and whether an earlier one holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.config.stages import Finetune, Parity
from vd100k.io import fingerprint
from vd100k.io.versions import versions
from vd100k.parity import certificate, renderer
from vd100k.parity.certificate import Certificate
from vd100k.training import data


def training(stage: Parity) -> Finetune:
    """The training whose rows are compared."""
    assert stage.train is not None  # the parser has put the step finetune there
    return stage.train


def base(run: Run) -> Run:
    """The run with the weights that are trained."""
    return run.model_copy(update={"weights": "base"})


def local_files(stage: Finetune) -> list[Path]:
    """The local training files; rows of data sets on a hub, and those that ms-swift makes itself, are not compared."""
    return [file for file in data.local_files(stage.args, "dataset") if file.suffix == ".jsonl"]


def fingerprint_of(run: Run, stage: Parity, files: list[Path]) -> str:
    """The fingerprint of everything that decides the result."""
    ours = [stage.rows, run.seed, run.task.system_prompt, run.model.max_pixels, versions()]
    train, serve = certificate.train_command(training(stage), "job.json"), renderer.command(run, 0)
    sides = [training(stage).args, train.env, serve.argv, serve.env]
    return fingerprint.of(
        [data.fingerprints(files), ours, sides, *map(fingerprint.of_model, (run.model.path, run.model_path))]
    )


def earlier(file: Path, wanted: str) -> dict[str, Any] | None:
    """An earlier result that still holds: of the same fingerprint, without a difference."""
    try:
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if kept.get("fingerprint") == wanted and kept.get("result") == "equal" else None


def content(found: Certificate, wanted: str, seconds: float) -> dict[str, Any]:
    """The content of parity.json."""
    return found.content() | {"seconds": round(seconds, 1), "versions": versions(), "fingerprint": wanted}
