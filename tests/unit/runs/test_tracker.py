"""W&B tracking: offline without a key, checked by reading W&B's own files. It never fails a run."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import wandb_file
from tests.conftest import command_line, draw_pictures, free_ports
from tests.wandb_server import wandb_server
from vd100k.config.run import Run
from vd100k.runs import tracker, wandb_session
from vd100k.runs.summary import Summary, file_facts
from vd100k.runs.tracker import Tracker

SECRET = "sk-do-not-keep-me"


@pytest.fixture
def run(parsed: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    wandb_session._unreachable.clear()
    urls = f"hardware.urls=['http://me:{SECRET}@127.0.0.1:1/v1']"
    return parsed("stage=generate", "images=p", "hardware=api", urls, "tracking=wandb", f"output_dir={tmp_path}")


def summary(tmp_path: Path) -> Summary:
    for name in ("in.jsonl", "out.jsonl"):
        (tmp_path / name).write_text(json.dumps({"name": name}) + "\n", encoding="utf-8")
    return Summary(
        "generate",
        "ok",
        {"rows": 3},
        [file_facts(tmp_path / "in.jsonl")],
        [file_facts(tmp_path / "out.jsonl")],
        {"loss": [[1, 2.0], [2, 0.5]], "after": {"exact_match": 0.25}},
    )


def test_a_run_without_a_key_is_tracked_offline(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = next(draw_pictures(tmp_path / "p", 1).iterdir())
    tracked = Tracker(run.in_group("a-pipeline"), tmp_path)
    tracked.log({"train/loss": 2.0, "train/global_step": 1}, step=1)
    tracked.log({"train/loss": 1.0, "train/global_step": 2}, step=2)
    tracked.table("answers", ["id", "image", "after"], [["a", image, "red"]])
    tracked.finish(summary(tmp_path))
    (kept,) = wandb_file.read(tmp_path)
    assert (kept.group, kept.job_type, kept.exit_code) == ("a-pipeline", "generate", 0)
    assert [row["train/loss"] for row in kept.history if "train/loss" in row] == [2.0, 1.0]
    assert kept.config["task"]["name"] == "details"
    assert (kept.summary["rows"], kept.summary["loss"], kept.summary["after/exact_match"]) == (3, 0.5, 0.25)
    made = {one[:3] for one in kept.artifacts}
    assert {("in.jsonl", "used", "dataset"), ("out.jsonl", "made", "dataset")} <= made
    (table,) = [one for one in kept.artifacts if one.kind == "run_table"]
    assert any(file.endswith(".png") for file in table.files)
    kept_files = [path for path in (tmp_path / "wandb").rglob("*") if path.is_file()]
    assert all(SECRET.encode() not in path.read_bytes() for path in kept_files)
    assert "wandb sync" in capsys.readouterr().out


def test_the_output_of_one_stage_is_the_input_artifact_of_the_next(run: Run, tmp_path: Path) -> None:
    for name in "12":
        (tmp_path / name).mkdir()
    first = summary(tmp_path)
    Tracker(run, tmp_path / "1").finish(first)
    Tracker(run, tmp_path / "2").finish(Summary("convert", "ok", inputs=first.outputs, metrics={"kept": 1}))
    one, two = (wandb_file.read(tmp_path / name)[0].artifacts for name in "12")
    (made,) = [(a.name, a.digest) for a in one if a.how == "made"]
    assert [(a.name, a.digest) for a in two if a.how == "used"] == [made]


def test_a_resumed_training_continues_its_wandb_run(run: Run, tmp_path: Path) -> None:
    for loss in (2.0, 1.0):
        tracked = Tracker(run, tmp_path)
        tracked.resume(tmp_path / "id")
        tracked.log({"train/loss": loss})
        tracked.finish(Summary("finetune"))
    kept = wandb_file.read(tmp_path)
    assert len(kept) == 2
    assert len({one.id for one in kept}) == 1


def test_a_stage_without_results_or_with_tracking_disabled_starts_no_wandb_run(run: Run, tmp_path: Path) -> None:
    Tracker(run, tmp_path).finish(Summary("serve", "ok"))
    reused = Tracker(run, tmp_path)
    reused.disable()
    reused.finish(summary(tmp_path))
    assert not (tmp_path / "wandb").exists()


def test_changing_figures_are_logged_repeatedly(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "EVERY_S", 0.2)
    count = iter(range(1_000_000))
    tracked = Tracker(run, tmp_path)
    with tracked.following(lambda: {"rows": next(count)}):
        time.sleep(3)
    tracked.finish(Summary("generate", metrics={"x": 1}))
    rows = [row["rows"] for row in wandb_file.read(tmp_path)[0].history]
    assert len(rows) > 1
    assert rows == sorted(rows)


def test_an_error_of_wandb_is_printed_once_and_does_not_end_the_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "no-such-mode")
    tracked = Tracker(run, tmp_path)
    for step in range(3):
        tracked.log({"x": step})
    tracked.finish(summary(tmp_path))
    assert capsys.readouterr().out.count("continues without tracking") == 1


def test_a_key_that_is_rejected_during_a_run_is_reported_once(tmp_path: Path) -> None:
    """Runs the command line, because W&B also prints messages of its own."""
    with wandb_server() as url:
        environment = os.environ | {"WANDB_BASE_URL": url, "WANDB_API_KEY": "k" * 40, "WANDB_MODE": "online"}
        done = subprocess.run(
            command_line("tracking=wandb", "stage=render", "stage.train=2", "stage.heldout=2"),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        )
    _, first, second, *last = [line for line in done.stdout.splitlines() if line]
    assert first.startswith(f"W&B: {url}")
    assert "did not receive all data" in second
    assert "401" in second
    assert "wandb sync" in second
    assert "finished in" in last[0]
    assert [line.split()[0] for line in last[1:]] == ["result", "page"]
    assert not done.stderr


def test_an_unreachable_server_is_waited_for_only_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free_ports(1)}")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr(wandb_session, "START_S", 3.0)
    for name in "12":
        (tmp_path / name).mkdir()
        tracked = Tracker(run, tmp_path / name)
        tracked.log({"x": 1})
        tracked.finish(summary(tmp_path))
    output = capsys.readouterr().out
    assert output.count("cannot be reached") == 1
    assert output.count("wandb sync") == 2
    assert [row["x"] for kept in wandb_file.read(tmp_path) for row in kept.history] == [1, 1]
