"""The whole demo as ``python run.py`` runs it, with the results that the README promises."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests import wandb_file
from tests.engine.browser import CHROMIUM
from tests.engine.conftest import START_S, Demo, Running, rows, summary

pytestmark = [pytest.mark.engine, pytest.mark.story, pytest.mark.timeout(1200)]


def test_the_demo_improves_the_student_and_a_second_run_reuses_everything(
    launch: Callable[..., Running], demo: Demo
) -> None:
    folder, metrics = demo.folder, demo.summary["metrics"]
    assert demo.output.count("24 rows are trained on as they are served.") == 2
    assert metrics["before"]["exact_match"] <= 0.1
    assert metrics["after"]["exact_match"] >= 0.8
    compared = rows(folder / "outputs/evaluations/scenes-42/scene/tiny-student.compared.jsonl")
    assert len(compared) == 200
    right = sum(_json(row["after"]) == row["label"] for row in compared)
    assert right / 200 == pytest.approx(metrics["after"]["exact_match"])
    trained_on = {row["id"] for row in rows(folder / "outputs/data/scenes-42/scene/tiny-teacher.jsonl")}
    assert len(trained_on) == 320

    check_tracking(folder)
    check_page(demo.report)

    again = launch(folder, *demo.command)
    again.process.wait(120)
    output = "".join(again.lines)
    assert summary(folder)["counts"]["requests"] == 0, output
    assert output.count("reusing") == 5
    assert summary(folder)["metrics"] == metrics

    # vLLM serves the base model and the adapter under two names, and their answers differ.
    served = launch(folder, "stage=serve", "experiment=demo", "weights=adapter", demo.command[1])
    served.wait_for("Ctrl-C stops it", START_S)
    assert "tiny-student-tuned answers 4 of 4 questions differently from tiny-student." in "".join(served.lines)
    assert served.interrupt() < 10


def check_tracking(folder: Path) -> None:
    """There is one W&B run for each stage, and artifacts link each stage to the one before it."""
    runs = {kept.job_type: kept for kept in wandb_file.read(folder)}
    assert list(runs) == ["render", "generate", "convert", "finetune", "export", "evaluate"]
    assert len({kept.group for kept in runs.values()}) == 1
    assert all(kept.config["task"]["name"] == "scene" for kept in runs.values())
    assert runs["generate"].summary["rows"] == 320
    assert runs["generate"].summary["completion_tokens"] > 320
    curve = [row["train/loss"] for row in runs["finetune"].history if "train/loss" in row]
    assert len(curve) == 17
    assert curve[-1] < 0.2 * curve[0]
    assert runs["evaluate"].summary["after/exact_match"] >= 0.8
    (table,) = [one for one in runs["evaluate"].artifacts if one.kind == "run_table"]
    assert sum(file.endswith(".png") for file in table.files) >= 50
    made = {stage: {a[:1] + a[2:4] for a in kept.artifacts if a.how == "made"} for stage, kept in runs.items()}
    used = {stage: {a[:1] + a[2:4] for a in kept.artifacts if a.how == "used"} for stage, kept in runs.items()}
    for earlier, later in itertools.pairwise(["generate", "convert", "finetune", "export", "evaluate"]):
        assert made[earlier] & used[later], f"{later} used no artifact of {earlier}"


def check_page(report: Path) -> None:
    """The report of the pipeline fits a wide and a narrow window, and loads nothing from the network."""
    if not CHROMIUM and "CI" not in os.environ:
        return
    address = report.as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 800})
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))  # type: ignore[misc]
            page.goto(address)
            stages = ["render", "generate", "convert", "parity", "finetune", "export", "parity_merged", "evaluate"]
            assert page.locator("section h2").all_inner_texts() == stages
            expect(page.locator("h1")).to_contain_text("exact on 200 held-out images")
            assert page.locator("header article img").count() == 4
            assert page.locator("article img").count() >= 50
            assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the window"
            assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
            page.get_by_role("link", name="details").nth(1).click()
            expect(page.locator(".kicker")).to_contain_text("generate")
            assert all(url.startswith(("file:", "data:")) for url in asked)
        browser.close()


def _json(text: str | None) -> object:
    try:
        return json.loads(text or "")
    except ValueError:
        return None
