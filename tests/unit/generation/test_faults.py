"""Everything that happens to a long run, on a small scale; ``benchmarks/faults.py`` does it with 10,000 images."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import faults


@pytest.mark.parametrize("scenario", faults.SCENARIOS)
def test_every_image_ends_answered_once_or_failed_with_its_reason(tmp_path: Path, scenario: str) -> None:
    result = faults.play(scenario, tmp_path, images=300, kills=3)
    assert (result["lost"], result["twice"]) == (0, 0), result
    assert result["again"] <= result["bound"], "only what was in flight is asked again"
    assert result["answered"] + sum(result["failed"].values()) == 300
    assert result["exit"] == 0
