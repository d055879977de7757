"""What is within noise of the best run: paired if both evaluated the same images, and not called so too seldom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vd100k.comparing.noise import standings, told
from vd100k.evaluation.certainty import certainty
from vd100k.evaluation.intervals import of_mean, of_unpaired
from vd100k.io import jsonl
from vd100k.runs.summary import file_facts

FIGURE = "after/exact_match"


def run(folder: Path, right: list[bool], keep: bool = True) -> dict[str, Any]:
    """The summary of an evaluation with these answers; without ``keep`` a later run has written over its rows."""
    folder.mkdir()
    scores = [{"exact_match": float(one)} for one in right]
    path = folder / "m.compared.jsonl"
    jsonl.write(path, [{"id": str(k), "scores": {"after": one}} for k, one in enumerate(scores)])
    facts = file_facts(path, len(right))
    if not keep:
        path.write_text("{}\n")
    mean = sum(right) / len(right)
    return {"outputs": [facts], "metrics": {"after": {"exact_match": mean}}, "certainty": certainty({"after": scores})}


def test_runs_on_the_same_images_are_compared_image_by_image(tmp_path: Path) -> None:
    best = run(tmp_path / "a", [True] * 95 + [False] * 5)
    close = run(tmp_path / "b", [True] * 85 + [False] * 15)  # right only where the best one is
    same = run(tmp_path / "c", [True] * 94 + [False] * 6)
    found = standings([close, best, same], FIGURE)
    assert [one.word for one in found if one] == ["worse", "best", "within noise"]
    assert found[0] is not None
    assert found[0].told.startswith("worse: -10 points (")
    assert found[0].told.endswith(" on the same 100 images")
    assert told(best, FIGURE) == "95.0 % (89 to 98)"


def test_without_the_rows_the_intervals_decide(tmp_path: Path) -> None:
    best = run(tmp_path / "a", [True] * 95 + [False] * 5)
    close = run(tmp_path / "b", [True] * 89 + [False] * 11, keep=False)
    far = run(tmp_path / "c", [True] * 40 + [False] * 60, keep=False)
    other = {"outputs": [], "metrics": {"loss": 1.0}}
    found = standings([best, close, far, other], FIGURE)
    assert [one and one.word for one in found] == ["best", "within noise", "worse", None]
    assert found[1] is not None
    assert "not image by image" in found[1].detail
    assert standings([best, other], FIGURE) == [None, None]
    assert standings([best, close], FIGURE, best=1)[0].word == "within noise"  # type: ignore[union-attr]


@pytest.mark.parametrize(("one", "two"), [(0.5, 0.5), (0.8, 0.9), (0.95, 0.7)])
def test_the_interval_of_a_difference_on_other_images_holds_the_truth_95_times_in_100(one: float, two: float) -> None:
    draws, held = np.random.default_rng(1), 0
    for _ in range(1000):
        first, second = (draws.random(150) < one).astype(float), (draws.random(120) < two).astype(float)
        bounds = of_mean(list(first)), of_mean(list(second))
        low, high = of_unpaired(float(first.mean()), bounds[0], float(second.mean()), bounds[1])
        held += low <= two - one <= high
    assert 930 <= held <= 975
