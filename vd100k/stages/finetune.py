"""Train a LoRA adapter with ms-swift (SFT or DPO), resume after an interruption, reuse an unchanged adapter."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from vd100k.cluster import training
from vd100k.config.run import Run
from vd100k.config.stages import Finetune
from vd100k.console import in_terminal, progress_bar, say
from vd100k.conversion import rejections
from vd100k.engines import commands
from vd100k.errors import TrainingError
from vd100k.io import atomic, fingerprint
from vd100k.models import model_folder
from vd100k.runs import charts
from vd100k.runs.needs import Need, missing, raised
from vd100k.runs.summary import Summary, file_facts, folder_facts
from vd100k.runs.tracker import Tracker
from vd100k.training import data, swift_log

POLL_S = 0.5
# The metrics to show, and their names in swift's log. DPO's margin is the difference between the implicit rewards of
# the chosen and the rejected answer, relative to the base model (https://arxiv.org/abs/2305.18290).
CURVES = {
    "sft": {"loss": "loss", "eval_loss": "eval_loss"},
    "dpo": {"loss": "loss", "eval_loss": "eval_loss", "margin": "rewards/margins"},
}
MISSING = "{}: the training file does not exist. Make it first: python run.py stage=convert …"
BLANK = 64  # bytes; a smaller file may have no rows


def needs(run: Run, stage: Finetune) -> Iterator[Need]:
    for file in data.local_files(stage.args, "dataset"):
        yield Need(partial(_faults, file), file)
    for file in data.local_files(stage.args, "val_dataset"):
        yield missing(file, MISSING.format(file))
    if not run.paths.adapter.exists():  # an unchanged training is reused
        yield Need(commands.swift_faults)
    yield Need(raised(lambda: model_folder.check(run, trains=True)))


def makes(run: Run, stage: Finetune) -> list[Path]:
    return [stage.folder, run.paths.adapter]


def plan(run: Run, stage: Finetune) -> list[str]:
    checkpoints = stage.folder / "checkpoints-FINGERPRINT"
    return [*training.describe(run, stage, checkpoints), f"link the last checkpoint as {run.paths.adapter}"]


def run(run: Run, stage: Finetune, folder: Path, summary: Summary, tracker: Tracker) -> None:
    stage = _without_empty(stage)
    files = [*data.local_files(stage.args, "dataset"), *data.local_files(stage.args, "val_dataset")]
    summary.inputs = [file_facts(file) for file in files]
    model_folder.ensure(run, trains=True)
    # Each combination of data and options has its own folder, so a change or a failure never loses earlier training.
    checkpoints = stage.folder / f"checkpoints-{_fingerprint(run, stage, files)[:8]}"
    done = checkpoints / "done"
    tracker.resume(checkpoints / "wandb-run")
    if done.exists() and swift_log.last_checkpoint(checkpoints):
        tracker.disable()
        say(f"reusing the adapter trained on the same data with the same options: {run.paths.adapter}")
    else:
        model_folder.refuse_code(run, {**stage.args, "resume": swift_log.last_checkpoint(checkpoints)})
        _train(run, stage, checkpoints, folder, tracker)
        done.touch()
    _link(run, swift_log.last_checkpoint(checkpoints))
    log_lines = swift_log.log_rows(checkpoints)
    found = {name: swift_log.curve(log_lines, key) for name, key in CURVES[stage.method].items()}
    curves = {name: curve for name, curve in found.items() if curve}
    points = curves.get("loss")
    if points:
        charts.training_curves(curves, stage.folder / "loss.png")
        ends = ", ".join(f"{name} {curve[0][1]:.3f} -> {curve[-1][1]:.3f}" for name, curve in curves.items())
        say(f"training {ends}: {stage.folder / 'loss.png'}")
    summary.counts = {"steps": points[-1][0] if points else 0}
    summary.metrics = dict(curves)
    summary.outputs = folder_facts(run.paths.adapter)


def _train(run: Run, stage: Finetune, checkpoints: Path, folder: Path, tracker: Tracker) -> None:
    """Run swift until it finishes; show its metrics and report them to the tracker as they arrive."""
    resume_from = swift_log.last_checkpoint(checkpoints)
    if resume_from:
        say(f"resuming from {resume_from}")
    seen = len(swift_log.log_rows(checkpoints))
    log = folder / f"swift-{stage.method}.log"
    with training.started(run, stage, checkpoints, resume_from, log) as child, progress_bar() as bar:
        task = bar.add_task(f"swift {stage.method}", total=None, note="loading")
        ended = False
        while not ended:
            ended = child.exit_code() is not None  # tested before the log is read, so that no last line is missed
            for line in swift_log.log_rows(checkpoints, skip=seen):
                seen += 1
                where = swift_log.position(line)
                tracker.log(swift_log.metrics(line), step=where[0] if where else None)
                if where and "loss" in line:
                    shown = {name: line[key] for name, key in CURVES[stage.method].items() if key in line}
                    note = " ".join(f"{name} {value:.4f}" for name, value in shown.items())
                    bar.update(task, completed=where[0], total=where[1], note=note)
                    if not in_terminal():
                        say(f"  step {where[0]}/{where[1]} {note}")
            if not ended:
                time.sleep(POLL_S)
        if child.exit_code():
            raise TrainingError(child.last_words(f"swift {stage.method}"))


def _faults(file: Path) -> Iterator[str]:
    """What is wrong with a training file: swift fails on an empty one without saying why."""
    if not file.exists():
        why = rejections.told(file)
        yield f"{file}: the training file does not exist. {why}" if why else MISSING.format(file)
    elif file.is_file() and file.stat().st_size < BLANK and file.read_bytes().strip() in (b"", b"[]"):
        why = rejections.told(file) or "Make it again: python run.py stage=convert …, which says why it rejects rows."
        yield f"{file}: the training file has no rows. {why}"


def _without_empty(stage: Finetune) -> Finetune:
    """The stage without its evaluation file if convert left that file empty, because swift would fail on it."""
    file = stage.args.get("val_dataset")
    if isinstance(file, str) and Path(file).exists() and not Path(file).stat().st_size:
        return stage.model_copy(update={"args": {**stage.args, "val_dataset": None}})
    return stage


def _fingerprint(run: Run, stage: Finetune, files: list[Path]) -> str:
    """The fingerprint of everything that determines the adapter: data, images, base model and options."""
    decided_by = [stage.method, stage.args, stage.env, data.fingerprints(files), fingerprint.of_model(run.model.path)]
    return fingerprint.of([*decided_by, *([] if run.cluster.here else [run.cluster.nodes])])  # they share each step


def _link(run: Run, target: Path | None) -> None:
    """Make the adapter's path point to ``target``, atomically.

    Raises:
        TrainingError: there is no checkpoint to link to.
    """
    link = run.paths.adapter
    if target is None:
        raise TrainingError(
            f"swift finished without an error, but saved no checkpoint for {link}: check "
            f"{run.key}.args.save_strategy and {run.key}.args.save_steps."
        )
    atomic.link(link, Path(os.path.relpath(target, link.parent)))
