"""Sweeps: one folder per job, and one table with the best job first and the reasons of failures."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chat_server import chat_server
from tests.conftest import ROOT, draw_pictures, sweep_table
from vd100k.comparing import sweeps
from vd100k.config import sweep_job
from vd100k.config.run import Run

Call = Callable[..., subprocess.CompletedProcess[str]]


def test_a_sweep_ends_with_a_table_of_its_jobs(vd100k: Call, tmp_path: Path) -> None:
    done = vd100k("-m", "stage=render", "stage.heldout=2", "stage.train=0,3,5", "sweep.metric=train")
    assert done.returncode == 1, "one of the jobs must fail"
    rows = sweep_table(tmp_path)
    assert [(row["stage.train"], row["status"], row["train"]) for row in rows] == [
        ("5", "ok", "5"),
        ("3", "ok", "3"),
        ("0", "failed", ""),
    ]
    assert "greater than 0" in rows[2]["reason"]
    assert "2 of 3 jobs finished" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    for row in rows:
        assert Path(tmp_path, row["folder"], "summary.json").exists()


def test_a_sweep_compares_models_on_the_same_images(vd100k: Call, tmp_path: Path) -> None:
    images = draw_pictures(tmp_path / "heldout", 4)
    labels = [{"id": path.name, "answer": "red"} for path in sorted(images.iterdir())]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels))

    def script(number: int, body: dict[str, Any]) -> str:
        return "red" if body["model"] == "tiny-reader" or number % 2 else "blue"

    with chat_server(script) as server:
        done = vd100k(
            *("-m", "stage=evaluate", "stage.sides=[before]", "model=tiny-student,tiny-reader,tiny-teacher"),
            *("hardware=api", f"hardware.urls=[{server.url}]", "dataset=d", "task=vqa", "stage.ask.check=false"),
            *(f"stage.images={images}", f"stage.labels={tmp_path / 'labels.jsonl'}", "stage.ask.max_in_flight=1"),
        )
    assert done.returncode == 0, done.stderr
    rows = sweep_table(tmp_path)
    assert rows[0]["model"] == "tiny-reader"
    assert [row["before/exact_match"] for row in rows] == ["1.0", "0.5", "0.5"]


def test_an_unknown_metric_is_reported(vd100k: Call) -> None:
    done = vd100k("-m", "stage=render", "stage.heldout=2", "stage.train=3", "sweep.metric=nothing")
    assert "sweep.metric=nothing is not one of train, heldout" in done.stdout


@pytest.mark.parametrize(
    ("varied", "name"),
    [
        (["stage.args.lora_rank=4,8"], "lora_rank-4"),
        (["stage.args.learning_rate=1e-4,2e-4", "stage.args.lora_rank=4"], "learning_rate-0.0001"),
        (["stage.finetune.args.lora_rank=4,8", "stage=pipeline"], "lora_rank-4"),
        (["model=tiny-student,tiny-reader"], None),
        (["limit=10,20"], "limit-10"),
        (["stage.method=sft", "stage.args.max_length=1,2", "max_length=3136,4000"], None),
        (["system='Be brief.','Be brief!'"], "system-Be_brief.-"),
        (["stage.args.lora_rank=4"], None),
    ],
)
def test_swept_training_settings_are_part_of_the_adapter_path(
    vd100k: Call, tmp_path: Path, varied: list[str], name: str | None
) -> None:
    """``dry_run`` prints the path of the adapter."""
    stage = [] if any(one.startswith("stage=") for one in varied) else ["stage=finetune"]
    done = vd100k("-m", "experiment=demo", "dry_run=true", *stage, *varied)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "link the last checkpoint" in line]
    jobs = 4 if len(varied) == 3 else 1 if varied == ["stage.args.lora_rank=4"] else 2
    assert len(set(lines)) == jobs, lines
    if jobs < 4:
        assert f"scenes-42-scene-tiny-teacher{'-' + name if name else '/adapter'}" in lines[0]
    assert not list(tmp_path.glob("outputs/sweeps/*/*/sweep.csv")), "a dry run must not write a table"


@pytest.mark.parametrize(
    "how",
    [
        ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "stage.train=2,3,0"],
        ["hydra/launcher=submitit_local", "stage.train=2,3,0"],
        ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "stage.train=range(2,6)", "hydra.sweeper.sampler.seed=1"],
    ],
    ids=["joblib", "submitit", "optuna"],
)
def test_sweeps_run_with_hydras_launcher_and_sweeper_plugins(vd100k: Call, tmp_path: Path, how: list[str]) -> None:
    """Jobs in other processes (joblib, submitit), and a search that optimises the metric (Optuna)."""
    apart = "stage.folder=outputs/drawn-${stage.train}"  # separate folders, because jobs may run in parallel
    done = vd100k("-m", "stage=render", "stage.heldout=2", "sweep.metric=train", apart, *how)
    rows = sweep_table(tmp_path)
    figures = [int(row["train"]) for row in rows if row["status"] == "ok"]
    assert figures == sorted(figures, reverse=True)
    if "stage.train=2,3,0" in how:
        assert figures == [3, 2]
        assert "greater than 0" in rows[-1]["reason"]
        assert "stage.train=0: input should be greater than 0" in done.stderr
    else:
        assert len(figures) == 3, done.stderr
        best = (next(tmp_path.glob("outputs/sweeps/*/*/optimization_results.yaml"))).read_text(encoding="utf-8")
        assert "best_value" in best


def job(folder: Path, number: int, varied: dict[str, str], status: str, **metrics: float) -> None:
    place = folder / f"{number}-finetune"
    (place / ".hydra").mkdir(parents=True)
    keys = ["stage=finetune", *(f"{key}={value}" for key, value in varied.items())]
    (place / ".hydra" / "overrides.yaml").write_text(json.dumps([*keys, f"sweep.keys=[{','.join(varied)}]"]))
    summary = {"stage": "finetune", "status": status, "outputs": [], "metrics": metrics, "error": None, "seconds": 1.0}
    (place / "summary.json").write_text(json.dumps(summary))


def test_jobs_are_ordered_by_the_lowest_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job(tmp_path, 0, {"rank": "4"}, "ok", loss=0.5)
    job(tmp_path, 1, {"rank": "8"}, "ok", loss=0.25)
    job(tmp_path, 2, {"rank": "16"}, "ok", loss=float("nan"))
    job(tmp_path, 10, {"rank": "32"}, "ok")
    job(tmp_path, 3, {"rank": "[bold]"}, "failed", loss=0.1)
    sweeps.write_table(tmp_path)
    with (tmp_path / "sweep.csv").open(encoding="utf-8", newline="") as file:
        assert [row["rank"] for row in csv.DictReader(file)] == ["8", "4", "16", "32", "[bold]"]
    assert "[bold]" in capsys.readouterr().out


def test_a_run_outside_a_sweep_has_no_variant_and_no_group(parsed: Callable[..., Run]) -> None:
    assert parsed("stage=finetune", "images=p").variant is None
    assert sweep_job.group() is None


def test_shell_completion_lists_the_options_of_a_group() -> None:
    script = subprocess.run(
        ["bash", "-c", f"cd {ROOT} && COMP_LINE='python run.py hardware=' python run.py -sc query=bash"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{ROOT / '.venv/bin'}:/usr/bin:/bin", "HOME": "/nonexistent"},
    )
    assert {"hardware=t4x4", "hardware=single-gpu"} <= set(script.stdout.split())
