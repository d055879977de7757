"""Faults that happen to long runs, on a small scale; ``benchmarks/faults.py`` uses 10,000 images."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import faults


@pytest.mark.parametrize("scenario", faults.SCENARIOS)
def test_every_image_ends_answered_once_or_failed_with_its_reason(tmp_path: Path, scenario: str) -> None:
    result = faults.play(scenario, tmp_path, images=300, kills=3)
    assert (result["lost"], result["twice"]) == (0, 0), result
    assert result["again"] <= result["bound"], "only requests in flight are sent again"
    assert result["answered"] + sum(result["failed"].values()) == 300
    assert result["exit"] == 0
