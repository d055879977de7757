"""The threshold of the calibrated gate: exact bounds, every outcome, and the promise itself in simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vd100k.verification.calibration import MOST_THRESHOLDS, Calibration, calibrate, curve, needed, upper_bound

LEVEL = 0.95


def test_the_numbers_of_labels_that_a_promise_needs_are_those_of_the_exact_bound() -> None:
    assert (needed(0.05), needed(0.03), needed(0.05, errors=1)) == (59, 99, 93)


def test_one_wrong_of_124_is_at_most_3_8_percent() -> None:
    assert round(upper_bound(1, 124), 3) == 0.038


@given(labelled=st.integers(1, 400), data=st.data())
def test_the_bound_is_that_of_clopper_and_pearson(labelled: int, data: st.DataObject) -> None:
    wrong = data.draw(st.integers(0, labelled))
    test = stats.binomtest(wrong, labelled, alternative="less")
    assert upper_bound(wrong, labelled) == pytest.approx(test.proportion_ci(LEVEL, "exact").high)


@given(st.floats(0.005, 0.5), st.integers(0, 5))
def test_the_number_needed_is_the_least_that_suffices(max_wrong: float, errors: int) -> None:
    least = needed(max_wrong, errors)
    assert upper_bound(errors, least) <= max_wrong < upper_bound(errors, least - 1)


def outcome(right: int, wrong: int, max_wrong: float = 0.05) -> Calibration:
    """The outcome with so many right rows at score 1 and wrong rows at score 0, all of them labelled."""
    labels = [(1.0, True)] * right + [(0.0, False)] * wrong
    return calibrate([score for score, _ in labels], labels, max_wrong)


def test_rows_that_the_scores_tell_apart_are_told_apart() -> None:
    found = outcome(right=100, wrong=30)
    assert (found.kind, found.chosen and (found.chosen.threshold, found.chosen.kept)) == ("kept", (1.0, 100))


def test_if_all_labels_are_right_no_threshold_is_needed() -> None:
    found = outcome(right=59, wrong=0)
    assert found.chosen
    assert found.chosen.kept == 59
    scores = list(np.linspace(0, 1, 500))
    found = calibrate(scores, [(score, True) for score in scores[::5]], 0.05)
    assert found.chosen
    assert found.chosen.kept == 500


def test_if_all_labels_are_wrong_nothing_can_be_kept() -> None:
    found = outcome(right=0, wrong=70)
    assert (found.kind, found.chosen) == ("too_many_wrong", None)


def test_too_few_labels_name_the_number_that_would_do() -> None:
    assert (outcome(right=58, wrong=0).kind, outcome(right=58, wrong=0).needed) == ("too_few_labels", 59)
    assert (outcome(right=10, wrong=0, max_wrong=0.03).needed) == 99
    assert calibrate([0.5, 1.0], [], 0.05).kind == "too_few_labels"
    assert calibrate([], [], 0.05).kind == "nothing_scored"


def test_one_wrong_row_with_a_high_score_does_not_end_the_search() -> None:
    labels = [(1.0, False)] + [(0.9, True)] * 150 + [(0.1, False)] * 40
    found = calibrate([score for score, _ in labels], labels, 0.05)
    assert found.chosen
    assert found.chosen.threshold == 0.9


def test_scores_that_are_all_equal_keep_everything_or_nothing() -> None:
    half = [(0.5, k % 20 != 0) for k in range(200)]
    assert calibrate([0.5] * 1000, half, 0.05).kind == "too_few_labels"
    found = calibrate([0.5] * 1000, half, 0.1)
    assert found.chosen
    assert found.chosen.kept == 1000
    assert calibrate([0.5] * 1000, [(0.5, False), *half] * 2, 0.01).kind == "too_many_wrong"


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=300), st.floats(0.01, 0.5))
def test_a_threshold_that_is_chosen_keeps_its_promise_in_the_labels(
    labels: list[tuple[float, bool]], max_wrong: float
) -> None:
    scores = [score for score, _ in labels]
    found = calibrate(scores, labels, max_wrong)
    points = curve(scores, labels)
    assert len(points) <= MOST_THRESHOLDS
    assert [point.threshold for point in points] == sorted({point.threshold for point in points}, reverse=True)
    assert [point.kept for point in points] == sorted(point.kept for point in points)
    if found.chosen:
        assert found.chosen.at_most <= max_wrong
        assert found.chosen.kept == sum(score >= found.chosen.threshold for score in scores)
    assert (found.chosen is not None) == (found.kind == "kept")


def test_a_high_score_with_few_labels_is_tested_if_the_next_score_would_be_worse() -> None:
    """85 labels at the highest score tolerate no wrong one, but the next threshold would keep many wrong rows."""
    labels = [(1.0, True)] * 85 + [(0.5, False)] * 115
    found = calibrate([score for score, _ in labels], labels, 0.05)
    assert found.chosen
    assert found.chosen.threshold == 1.0


SIMULATIONS = 200
ROWS, LABELS, MAX_WRONG = 2000, 200, 0.05


@pytest.mark.parametrize("wrong", [0.1, 0.3])
@pytest.mark.parametrize("separation", [0.0, 1.0, 3.0])
def test_the_promise_is_broken_in_at_most_one_of_twenty_labellings(wrong: float, separation: float) -> None:
    """The scores of right and wrong rows are normal, ``separation`` standard deviations apart."""
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(SIMULATIONS):
        is_right = rng.random(ROWS) >= wrong
        scores = 1 / (1 + np.exp(-rng.normal(is_right * separation)))
        drawn = rng.choice(ROWS, LABELS, replace=False)
        found = calibrate(scores.tolist(), [(scores[k], bool(is_right[k])) for k in drawn], MAX_WRONG)
        if found.chosen:
            broken += bool((~is_right[scores >= found.chosen.threshold]).mean() > MAX_WRONG)
    assert broken <= 0.07 * SIMULATIONS
