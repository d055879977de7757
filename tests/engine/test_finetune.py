"""``swift sft`` on the tiny student: it learns, uses the images, and resumes; its export can be served."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import wandb_file
from tests.conftest import command_line, free_ports, sweep_table
from tests.engine.conftest import Running, rows, summary

pytestmark = pytest.mark.engine

COMMON = ["experiment=demo", "answers=truth"]
SHORT = ["+stage.args.max_steps=16", "stage.args.logging_steps=1", "stage.args.save_steps=8"]


def call(folder: Path, *overrides: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line in ``folder`` and wait until it exits."""
    return subprocess.run(
        command_line(*overrides), cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
    )


def prepare(folder: Path, shift: int = 0) -> Path:
    """Make pictures and rows with correct answers, or, with a shift, with the answers to other pictures."""
    assert call(folder, "stage=render", "stage.train=64", "stage.heldout=8").returncode == 0
    images = sorted((folder / "outputs/images/scenes-42/train").iterdir())
    labels = rows(folder / "outputs/images/scenes-42/train.jsonl")
    path = folder / "outputs/data/scenes-42/scene/truth.jsonl"
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8") as file:
        for k, label in enumerate(labels):
            image = images[(k + shift) % len(images)]
            row = {"id": label["id"], "image": str(image), "model": "truth", "finish_reason": "stop"}
            row |= {"question": "Describe the picture as JSON.", "answer": json.dumps(label["answer"])}
            file.write(json.dumps(row) + "\n")
    # No validation split: it depends on the image, and a shift changes the images.
    assert call(folder, "stage=convert", *COMMON, "stage.split_dataset_ratio=0").returncode == 0
    return folder


def losses(folder: Path) -> list[float]:
    """The training loss of each step of the last run."""
    return [loss for _, loss in summary(folder)["metrics"]["loss"]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = prepare(tmp_path_factory.mktemp("trained"))
    done = call(folder, "stage=finetune", *COMMON, *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_loss_falls_and_its_chart_is_saved(trained: Path) -> None:
    steps = losses(trained)
    assert len(steps) == 16
    assert sum(steps[-4:]) < 0.5 * sum(steps[:4])
    tuned = trained / "outputs/models/tiny-student/scenes-42-scene-truth"
    assert (tuned / "loss.png").stat().st_size > 5_000
    assert (tuned / "adapter/adapter_model.safetensors").exists()


def test_the_result_changes_when_the_images_change(trained: Path, tmp_path: Path) -> None:
    """Questions, answers, order and seed are the same, and only the images differ: the loss must differ too."""
    folder = prepare(tmp_path, shift=1)
    done = call(folder, "stage=finetune", *COMMON, *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    same_text = [
        [row["messages"] for row in rows(one / "outputs/data/scenes-42/scene/truth.swift/train.jsonl")]
        for one in (trained, folder)
    ]
    assert same_text[0] == same_text[1]
    # The loss of the first step is measured before any update, so only the images can change it.
    assert abs(losses(folder)[0] - losses(trained)[0]) > 1e-3
    # Answers that do not fit the images are harder to learn.
    assert sum(losses(folder)[-4:]) > sum(losses(trained)[-4:])


def test_a_rerun_reuses_the_adapter(trained: Path) -> None:
    again = call(trained, "stage=finetune", *COMMON, *SHORT)
    assert again.returncode == 0
    assert "reusing the adapter" in again.stdout


def test_an_interrupted_training_resumes_from_its_checkpoint(launch: Callable[..., Running], tmp_path: Path) -> None:
    prepare(tmp_path)
    running = launch(tmp_path, "stage=finetune", *COMMON, *SHORT, "tracking=wandb")
    running.wait_for("step 10/16", 200)
    assert running.interrupt() < 10
    assert summary(tmp_path)["status"] == "interrupted"
    done = call(tmp_path, "stage=finetune", *COMMON, *SHORT, "tracking=wandb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming from" in done.stdout
    assert "checkpoint-8" in done.stdout
    assert len(losses(tmp_path)) == 16
    # W&B was offline, so one run has two files: the second starts at the checkpoint.
    first, second = wandb_file.read(tmp_path)
    assert first.id == second.id
    steps = [[row["train/global_step"] for row in kept.history if "train/loss" in row] for kept in (first, second)]
    assert steps[0][0] == 1
    assert steps[0][-1] >= 10
    assert steps[1] == list(range(9, 17))


@pytest.mark.story
def test_a_sweep_trains_each_setting_once(trained: Path) -> None:
    """A sweep over four settings, one of which swift rejects, runs twice; the second run reuses the adapters."""
    ranks = ["2", "4", "8", "0"]
    steps = ["+stage.args.max_steps=4", "stage.args.logging_steps=1"]
    sweep = ["-m", "stage=finetune", *COMMON, *steps, f"stage.args.lora_rank={','.join(ranks)}", "tracking=wandb"]
    done = call(trained, *sweep, timeout=500)
    assert done.returncode == 1
    assert "3 of 4 jobs finished" in done.stdout
    first = sweep_table(trained)
    assert [row["status"] for row in first] == ["ok", "ok", "ok", "failed"]
    assert {row["stage.args.lora_rank"] for row in first[:3]} == set(ranks[:3])
    assert [float(row["loss"]) for row in first[:3]] == sorted(float(row["loss"]) for row in first[:3])
    assert "r` should be a positive integer" in first[3]["reason"]
    kept = wandb_file.read(trained / "outputs/sweeps")
    assert len({one.id for one in kept}) == 3
    assert len({one.group for one in kept}) == 1
    tuned = trained / "outputs/models/tiny-student"
    assert all((tuned / f"scenes-42-scene-truth-lora_rank-{rank}/adapter").exists() for rank in ranks[:3])

    again = call(trained, *sweep, timeout=300)
    assert again.stdout.count("reusing the adapter") == 3
    assert "  step " not in again.stdout
    assert len({one.id for one in wandb_file.read(trained / "outputs/sweeps")}) == 3
    assert [row["loss"] for row in sweep_table(trained)] == [row["loss"] for row in first]


def test_an_option_that_swift_rejects_is_reported_in_the_words_of_swift(trained: Path) -> None:
    done = call(trained, "stage=finetune", *COMMON, "+stage.args.no_such_option=1")
    assert done.returncode == 1
    assert "no_such_option" in done.stderr
    assert "Traceback" not in done.stderr.split("swift sft exited")[0]
    assert (trained / "outputs/models/tiny-student/scenes-42-scene-truth/adapter").exists(), (
        "the adapter trained before is kept"
    )


def test_the_export_serves_on_swift_and_answers_differently(trained: Path, launch: Callable[..., Running]) -> None:
    exported = call(trained, "stage=export", *COMMON)
    assert exported.returncode == 0, exported.stdout + exported.stderr
    assert re.search(r"result  merged model, [1-9][\d.]* MB", exported.stdout), exported.stdout
    assert "reusing the merged model" in call(trained, "stage=export", *COMMON).stdout
    answers: dict[str, list[dict[str, Any]]] = {}
    for weights in ("base", "merged"):
        done = call(
            trained,
            "stage=generate",
            "model=tiny-student",
            "task=scene",
            "dataset=scenes-42",
            f"weights={weights}",
            "answers=truth",
            f"paths.rows=outputs/{weights}.jsonl",
            "task.reader=text",  # after 16 steps the answers are not valid JSON yet
            "images=outputs/images/scenes-42/heldout",
            "engine@hardware.engine=swift",
            f"hardware.port={free_ports(1)}",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        answers[weights] = rows(trained / f"outputs/{weights}.jsonl")
    assert len(answers["merged"]) == 8
    assert {row["answer"] for row in answers["merged"]} != {row["answer"] for row in answers["base"]}
