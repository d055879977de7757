"""Planted errors: agreement over three samples tells wrong rows from right ones, but not an error that is repeated."""

from __future__ import annotations

import random

import pytest

from benchmarks import verification

ROWS = 600


def figures(line: str) -> list[float]:
    """The wrong rows, those among the kept, the right ones kept, the broken promises, the refusals, in percent."""
    return [float(cell.strip(" %").replace("–", "nan")) for cell in line.split("|")]


@pytest.mark.parametrize("share", verification.SHARES)
@pytest.mark.parametrize("name", list(verification.PLANTS))
def test_the_promise_is_kept_and_right_rows_are_kept(name: str, share: float) -> None:
    truth, rows, noisy, samples = verification.drawn(ROWS)
    rng = random.Random(1)
    chosen = set(rng.sample(sorted(rows), round(share * ROWS)))
    planted = verification.PLANTS[name](rows, noisy, chosen, rng)
    _, among_kept, right_kept, broken, refused = figures(verification.measured(planted, truth, samples))
    assert among_kept <= 5
    assert right_kept >= 90
    assert broken <= 7
    assert refused == 0


def test_an_error_that_the_samples_repeat_is_refused() -> None:
    truth, rows, _, samples = verification.drawn(ROWS)
    shared = {id: verification.confused(answer) for id, answer in rows.items()}
    repeated = {id: [verification.confused(one) for one in answers] for id, answers in samples.items()}
    assert figures(verification.measured(shared, truth, repeated))[-1] == 100
