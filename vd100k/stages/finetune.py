"""LoRA with ``swift sft``: started, watched, resumed after an interruption, reused when nothing changed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from vd100k import commands, figures, fingerprint, models, training
from vd100k.config import Finetune, Run
from vd100k.console import console, progress, say
from vd100k.errors import DataError, TrainingError
from vd100k.processes import Child
from vd100k.records import write_json
from vd100k.summary import Summary, file_facts
from vd100k.tracking import Log, track

POLL_S = 0.5


def plan(run: Run, stage: Finetune) -> list[str]:
    return [str(commands.sft(stage, stage.folder / "checkpoints")), f"link the last checkpoint as {run.paths.adapter}"]


def run(run: Run, stage: Finetune, folder: Path) -> Summary:
    stage = _with_files(stage)
    models.ensure(run)
    train = Path(stage.args["dataset"])
    checkpoints, mark = stage.folder / "checkpoints", stage.folder / "finetune.json"
    decided = _fingerprint(run, stage)
    old = json.loads(mark.read_text(encoding="utf-8")) if mark.exists() else {}
    lines = training.log_lines(checkpoints)
    if old.get("fingerprint") == decided and old.get("done") and run.paths.adapter.exists():
        say(f"reusing the adapter trained on the same data with the same options: {run.paths.adapter}")
    else:
        if old.get("fingerprint") != decided and checkpoints.exists():
            checkpoints.rename(stage.folder / f"checkpoints.{time.strftime('%Y%m%d-%H%M%S')}")
        stage.folder.mkdir(parents=True, exist_ok=True)
        write_json(mark, {"fingerprint": decided, "done": False})
        with track(run, folder) as log:
            lines = _train(stage, checkpoints, folder, log)
        _link(run.paths.adapter, training.last_checkpoint(checkpoints))
        write_json(mark, {"fingerprint": decided, "done": True})
    points = training.curve(lines)
    if points:
        figures.loss_curve(points, stage.folder / "loss.png")
        say(f"training loss {points[0][1]:.3f} -> {points[-1][1]:.3f}: {stage.folder / 'loss.png'}")
    return Summary(
        "finetune",
        counts={"steps": points[-1][0] if points else 0},
        inputs=[file_facts(train)],
        outputs=[file_facts(run.paths.adapter / "adapter_model.safetensors")],
        metrics={"loss": points},
    )


def _train(stage: Finetune, checkpoints: Path, folder: Path, log: Log) -> list[dict[str, Any]]:
    """Run swift to its end, its log lines shown and logged as they come; returns all of them."""
    resume_from = training.last_checkpoint(checkpoints)
    if resume_from:
        say(f"going on from {resume_from}")
    command = commands.sft(stage, checkpoints, resume_from)
    seen = len(training.log_lines(checkpoints))
    with Child(command, folder / "swift-sft.log") as child, progress() as bar:
        task = bar.add_task(f"swift {stage.method}", total=None, note="loading")
        ended = False
        while not ended:
            ended = child.exit_code() is not None  # before the log is read: what it wrote last counts
            for line in training.log_lines(checkpoints, skip=seen):
                seen += 1
                if (where := training.position(line)) and "loss" in line:
                    bar.update(task, completed=where[0], total=where[1], note=f"loss {line['loss']:.4f}")
                    log(
                        {"step": where[0], "train/loss": line["loss"], "train/learning_rate": line.get("learning_rate")}
                    )
                    if not console.is_terminal:
                        say(f"  step {where[0]}/{where[1]} loss {line['loss']:.4f}")
            if not ended:
                time.sleep(POLL_S)
        if code := child.exit_code():
            raise TrainingError(
                f"swift {stage.method} ended with exit code {code}. Its last lines ({child.log}):\n{child.tail()}"
            )
    return training.log_lines(checkpoints)


def _with_files(stage: Finetune) -> Finetune:
    """The stage with its data files checked, and no evaluation file where it would be empty."""
    train = Path(stage.args["dataset"])
    if not train.exists():
        raise DataError(f"{train}: no training file there. Make it first: python run.py stage=convert …")
    args = dict(stage.args)
    if args.get("val_dataset") and not _filled(Path(args["val_dataset"])):
        args["val_dataset"] = None
    return stage.model_copy(update={"args": args})


def _filled(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _fingerprint(run: Run, stage: Finetune) -> str:
    """What decides the adapter: data, base, options."""
    files = [stage.args["dataset"], stage.args.get("val_dataset")]
    contents = [fingerprint.of_file(Path(file)) for file in files if file]
    return fingerprint.of([stage.method, stage.args, stage.env, contents, fingerprint.of_model(run.model.path)])


def _link(link: Path, target: Path | None) -> None:
    if target is None:
        raise TrainingError(f"swift ended well but left no checkpoint beside {link}.")
    link.unlink(missing_ok=True)
    link.symlink_to(target.relative_to(link.parent), target_is_directory=True)
