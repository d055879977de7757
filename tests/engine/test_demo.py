"""The demo, whole, as ``python run.py`` runs it: what the README promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import free_ports
from tests.engine.conftest import START_S, Running, rows, summary

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]


def test_the_demo(launch: Callable[..., Running], tmp_path: Path) -> None:
    demo = [f"hardware.port={free_ports(1)}", "tracking=wandb"]
    first = launch(tmp_path, *demo)
    first.process.wait(1000)
    said = "".join(first.lines)
    assert first.process.returncode == 0, said
    metrics = summary(tmp_path)["metrics"]
    assert metrics["before"]["exact_match"] <= 0.1
    assert metrics["after"]["exact_match"] >= 0.8
    compared = rows(tmp_path / "outputs/evaluations/scenes-42/scene/tiny-student.compared.jsonl")
    assert len(compared) == 200
    right = sum(_json(row["after"]) == row["label"] for row in compared)
    assert right / 200 == pytest.approx(metrics["after"]["exact_match"])
    trained_on = {row["id"] for row in rows(tmp_path / "outputs/data/scenes-42/scene/tiny-teacher.jsonl")}
    assert len(trained_on) == 320

    again = launch(tmp_path, *demo)
    again.process.wait(120)
    said = "".join(again.lines)
    assert summary(tmp_path)["counts"]["requests"] == 0, said
    assert said.count("reusing") == 3
    assert summary(tmp_path)["metrics"] == metrics

    # The adapter on its base, both by name, and heard to make a difference.
    served = launch(tmp_path, "stage=serve", "experiment=demo", "weights=adapter", demo[0])
    served.wait_for("Ctrl-C stops it", START_S)
    assert "tiny-student-tuned answers 4 of 4 questions otherwise than tiny-student." in "".join(served.lines)
    assert served.interrupt() < 10


def _json(text: str | None) -> object:
    try:
        return json.loads(text or "")
    except ValueError:
        return None
