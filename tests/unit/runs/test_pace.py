"""The requests and the cost of a generation over time: collected by the run, and drawn in its report."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chat_server import chat_server
from tests.unit.generation.test_run import ask
from tests.unit.runs.test_report import checked_as_safe, summary
from vd100k.pages import pace
from vd100k.pages.pace import Pace
from vd100k.runs.report import page
from vd100k.runs.summary import figures


@given(st.lists(st.tuples(st.floats(0.01, 900), st.integers(0, 500)), max_size=400))
def test_any_run_has_at_most_60_points_and_loses_no_request(steps: list[tuple[float, int]]) -> None:
    collected, now, requests = Pace(), 7.0, 0
    collected.add(now, 0, 0.0)
    for seconds, more in steps:
        now, requests = now + seconds, requests + more
        collected.add(now, requests, requests / 1000)
    columns = collected.columns()
    if not columns:
        # Each step of more than the gap is a point after the first one.
        assert 1 + sum(seconds > 1.01 * pace.FIRST_GAP_S for seconds, _ in steps) < pace.FEWEST
        return
    assert pace.FEWEST <= len(columns["seconds"]) <= pace.MOST
    assert columns["seconds"] == sorted(columns["seconds"])
    assert (columns["requests"][-1], columns["cost"][-1]) == (requests, requests / 1000)
    assert columns["seconds"][-1] == pytest.approx(now - 7.0, abs=0.01)
    drawn = pace.rates(columns)
    assert all(math.isfinite(rate) and rate >= 0 for _, rate in drawn)


def test_a_steady_run_has_a_steady_rate_until_its_end() -> None:
    collected = Pace()
    for tick in range(1001):
        collected.add(tick / 2, 5 * tick, None)
    collected.add(500.01, 5001, None)
    columns = collected.columns()
    assert "cost" not in columns
    assert not pace.costs(columns)
    assert {round(rate, 1) for _, rate in pace.rates(columns)} == {10.0}


def test_a_run_says_its_pace_and_the_report_draws_it(
    vd100k: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, pictures: Path
) -> None:
    def slowly(number: int, body: object) -> str:
        time.sleep(1)
        return "an answer"

    with chat_server(slowly) as server:
        done = ask(vd100k, server, "stage.max_in_flight=1", "model.price={prompt: 1000, completion: 1000}")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "outputs/latest/summary.json").read_text(encoding="utf-8"))
    columns = told["metrics"]["pace"]
    assert columns["requests"][-1] == 6
    assert columns["cost"][-1] == told["counts"]["cost"] > 0
    assert 4 < columns["seconds"][-1] < 60
    assert not any("pace" in name for name in figures(told)), "it is no figure to compare runs by"
    html = checked_as_safe((tmp_path / "outputs/latest/report.html").read_text(encoding="utf-8"))
    assert html.count("data-points=") == 2
    assert "Requests a second" in html


def test_a_cost_that_is_not_known_is_not_drawn(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"id": "x", "question": "?", "answer": "a"}\n')
    outputs = [{"path": str(tmp_path / "m.jsonl"), "rows": 1, "sha256": ""}]
    columns = {"seconds": [0, 60, 120, 180], "requests": [0, 60, 600, 660]}
    folder = summary(tmp_path / "run", "generate", outputs=outputs, metrics={"pace": columns})
    html = checked_as_safe(page.write(folder).read_text(encoding="utf-8"))
    assert "0.00;60 s: 1|" in html
    assert "2 min: 9|" in html
    assert "Cost so far" not in html
