"""Intervals hold the truth as often as they promise, and chance is seldom called a difference: seeded simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.evaluation import intervals
from vd100k.evaluation.intervals import Interval, of_difference, of_mean

SHARES = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def covered(truth: float, found: Interval) -> bool:
    return found.low <= truth <= found.high


@pytest.mark.parametrize("share", [0.3, 0.8, 0.95])
def test_the_interval_of_a_share_holds_the_truth_95_times_in_100(share: float) -> None:
    draws = np.random.default_rng(1)
    held = [covered(share, of_mean(list((draws.random(200) < share).astype(float)))) for _ in range(2000)]
    assert 0.93 <= np.mean(held) <= 0.97


def test_the_interval_of_a_mean_holds_the_truth_95_times_in_100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 999)
    draws = np.random.default_rng(2)
    # The share of correct fields of an answer with five fields, a third of which are all right.
    truth, held = 1 / 3 + 2 / 3 * 0.6, []
    for _ in range(600):
        perfect = draws.random(200) < 1 / 3
        values = np.where(perfect, 1.0, draws.binomial(5, 0.6, 200) / 5)
        held.append(covered(truth, of_mean(list(values))))
    assert 0.93 <= np.mean(held) <= 0.97


@pytest.mark.parametrize(("before", "gain"), [(0.2, 0.5), (0.7, 0.1), (0.5, 0.0)])
def test_the_interval_of_a_paired_difference_holds_the_truth_95_times_in_100(before: float, gain: float) -> None:
    draws = np.random.default_rng(3)
    held = []
    for _ in range(1000):
        # The same difficulty decides about both sides, so that they are correlated.
        difficulty = draws.random(200)
        one = difficulty < before
        two = np.where(draws.random(200) < 0.7, difficulty < before + gain, draws.random(200) < before + gain)
        held.append(covered(gain, of_difference(list(one.astype(float)), list(two.astype(float))).interval))
    assert 0.93 <= np.mean(held) <= 0.98


@pytest.mark.parametrize("fields", [1, 4])
def test_a_permuted_before_and_after_is_seldom_called_a_difference(
    fields: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "EXCHANGES", 499)
    monkeypatch.setattr(intervals, "RESAMPLES", 50)
    draws = np.random.default_rng(4)
    one, two = draws.binomial(fields, 0.6, 120) / fields, draws.binomial(fields, 0.85, 120) / fields
    called = 0
    for _ in range(1000):
        exchanged = draws.random(120) < 0.5
        before, after = np.where(exchanged, two, one), np.where(exchanged, one, two)
        called += of_difference(list(before), list(after)).verdict != "no difference shown"
    assert called <= 50


def test_a_clear_gain_is_better_and_a_clear_loss_is_worse() -> None:
    before, after = [0.0] * 80 + [1.0] * 20, [1.0] * 95 + [0.0] * 5
    gain, loss = of_difference(before, after), of_difference(after, before)
    assert (gain.verdict, gain.better, gain.worse, gain.needed) == ("better", 80, 5, None)
    assert gain.change == pytest.approx(0.75)
    assert gain.interval.low > 0.6
    assert (loss.verdict, loss.better, loss.worse) == ("worse", 5, 80)


def test_a_small_difference_says_how_many_images_would_show_it() -> None:
    found = of_difference([1.0] * 60 + [0.0] * 40, [1.0] * 64 + [0.0] * 34 + [0.0, 0.0])
    assert found.verdict == "no difference shown"
    assert found.needed is not None
    assert found.needed > 100
    # With that many images of the same kind, most samples show it.
    draws, shown = np.random.default_rng(5), 0
    for _ in range(200):
        two = np.where(draws.random(found.needed) < 0.04, 1.0, 0.0)
        shown += of_difference([0.0] * found.needed, list(two)).verdict == "better"
    assert shown >= 130


def test_equal_sides_and_single_images_are_no_difference() -> None:
    assert of_difference([1.0], [1.0]).verdict == of_difference([0.25], [0.75]).verdict == "no difference shown"
    assert of_difference([0.5] * 9, [0.5] * 9).needed is None
    assert of_mean([]) == Interval(0, 1)
    assert of_mean([1.0] * 59).low == pytest.approx(0.939, abs=0.001)


def test_a_comparison_without_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="2 values before and 1 after"):
        of_difference([1.0, 0.0], [1.0])


@given(SHARES)
def test_any_pairs_have_an_interval_around_their_difference(pairs: list[tuple[bool, bool]]) -> None:
    before, after = [float(one) for one, _ in pairs], [float(two) for _, two in pairs]
    found = of_difference(before, after)
    assert -1 <= found.interval.low <= found.change + 1e-9
    assert found.change - 1e-9 <= found.interval.high <= 1
    assert 0 < found.p <= 1
    assert math.isfinite(found.change)
    for side in (before, after):
        low, high = of_mean(side)
        assert 0 <= low <= sum(side) / len(side) + 1e-9
        assert sum(side) / len(side) - 1e-9 <= high <= 1
