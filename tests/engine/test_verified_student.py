"""A systematic error ruins the student; a second model and 200 labels repair it, and more of its own answers do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.verification import confused
from benchmarks.verified_student import Bench, Figure, closed
from tests.conftest import free_ports
from tests.engine.conftest import Demo

pytestmark = [pytest.mark.engine, pytest.mark.story, pytest.mark.timeout(1200)]


def test_the_student_is_better_for_the_gate(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo.folder)
    bench, clean = Bench(Path("outputs"), free_ports(1)), Figure.of(demo.summary)
    truth, right = bench.answered()  # both are there already
    wrong = {id: confused(answer) for id, answer in right.items()}
    assert 0.25 < sum(wrong[id] != right[id] for id in right) / len(right) < 0.35
    bench.plant("systematic", wrong, truth)
    students = [bench.train("systematic", variant) for variant in ("all", "gate")]
    assert students[1].rows < students[0].rows == len(right)
    with bench.served(students):
        everything, kept = map(bench.figure, students)
        said = bench.self_agreement(students[0])
    print(f"all rows {everything}, the rows that the gate keeps {kept}, right rows {clean}")
    assert kept.low > everything.high
    assert closed(clean, everything, kept) >= 0.8
    # The student has learned the error, so it says the same again, and nothing is promised.
    assert "cannot be kept by any threshold" in said, said
