"""The lowest score at which the rows that are kept are known to be right often enough. Pure functions.

The guarantee is that of Learn then Test (Angelopoulos et al., 2021): thresholds in a fixed order, from the highest
down, are tested one after another at the full level until the first one fails (fixed-sequence testing). The test is the
exact binomial one, so a threshold passes if the one-sided bound of Clopper and Pearson (1934) is within ``max_wrong``.
It assumes that the labelled rows were drawn at random from all rows that have a score.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

CONFIDENCE = 0.95
MOST_THRESHOLDS = 40  # tested and shown, if there are more different scores

Kind = Literal["kept", "too_few_labels", "too_many_wrong", "nothing_scored"]


@dataclass(frozen=True)
class Point:
    """What a threshold keeps: ``kept`` rows, of which ``labelled`` have a label and ``wrong`` of those are wrong.

    ``at_most`` is the share of wrong rows that is not exceeded with 95 % confidence.
    """

    threshold: float
    kept: int
    labelled: int
    wrong: int
    at_most: float

    @property
    def share(self) -> float:
        """The estimated share of wrong rows among those kept."""
        return self.wrong / self.labelled if self.labelled else math.nan


@dataclass(frozen=True)
class Calibration:
    """The outcome: ``chosen`` is the threshold to use if ``kind`` is "kept", else None.

    ``needed`` is the number of labelled rows above the highest tested threshold that would make a promise possible, and
    ``curve`` has all thresholds from the highest to the lowest.
    """

    kind: Kind
    max_wrong: float
    rows: int
    labels: int
    curve: list[Point] = field(default_factory=list)
    chosen: Point | None = None
    tested: Point | None = None  # the first threshold tested, or the highest one with labels if there are too few
    needed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """JSON, for ``summary.json``."""
        return asdict(self)


def calibrate(scores: Sequence[float], labels: Sequence[tuple[float, bool]], max_wrong: float) -> Calibration:
    """The lowest threshold at which, with 95 % confidence, at most ``max_wrong`` of the kept rows are wrong.

    Args:
        scores: the score of every row, in 0..1.
        labels: of each labelled row, its score and whether it is right.
        max_wrong: the largest share of wrong rows, in (0, 1).
    """
    found = curve(scores, labels)
    total = len(scores), len(labels)
    if not found:
        return Calibration("nothing_scored", max_wrong, *total)
    tested = _to_test(found, max_wrong)
    if not tested:
        first = next((point for point in found if point.labelled), found[0])
        too_many = _is_too_many(first, max_wrong)
    else:
        passed = list(itertools.takewhile(lambda point: point.at_most <= max_wrong, tested))
        if passed:
            return Calibration("kept", max_wrong, *total, found, passed[-1], tested[0])
        first = tested[0]
        too_many = first.share > max_wrong
    kind: Kind = "too_many_wrong" if too_many else "too_few_labels"
    return Calibration(kind, max_wrong, *total, found, None, first, needed(max_wrong, first.wrong))


def _to_test(points: Sequence[Point], max_wrong: float) -> list[Point]:
    """The thresholds that have enough labels to be tested, from the first one to test.

    That is the highest score if enough rows have it; otherwise, if there are that many labels, the first threshold that
    may have one wrong label, so that one slip does not end the search. The choice depends on how many labels are above
    a threshold, never on what they say, so the test stays exact.
    """
    least, tolerant = needed(max_wrong), needed(max_wrong, 1)
    enough = [point for point in points if point.labelled >= least]
    if enough and enough[0] is not points[0] and enough[-1].labelled >= tolerant:
        return [point for point in enough if point.labelled >= tolerant]
    return enough


def _is_too_many(point: Point, max_wrong: float) -> bool:
    """Whether even these few labels show that more than ``max_wrong`` are wrong, with 95 % confidence."""
    from scipy import stats  # slow to import

    if not point.labelled:
        return False
    return bool(stats.binom.sf(point.wrong - 1, point.labelled, max_wrong) < 1 - CONFIDENCE)


def curve(scores: Sequence[float], labels: Sequence[tuple[float, bool]]) -> list[Point]:
    """What each threshold keeps, from the highest to the lowest."""
    ordered = np.sort(np.asarray(scores, float))
    at = np.asarray([score for score, _ in labels], float)
    wrong = np.asarray([not right for _, right in labels], bool)
    points = []
    for threshold in _thresholds(ordered):
        above = at >= threshold
        kept = len(ordered) - int(np.searchsorted(ordered, threshold))
        labelled, errors = int(above.sum()), int(wrong[above].sum())
        points.append(Point(float(threshold), kept, labelled, errors, upper_bound(errors, labelled)))
    return points


def upper_bound(wrong: int, labelled: int) -> float:
    """The share of wrong rows that is not exceeded with 95 % confidence (Clopper and Pearson, one-sided)."""
    if wrong >= labelled:
        return 1.0
    from scipy.special import betaincinv  # slow to import

    return float(betaincinv(wrong + 1, labelled - wrong, CONFIDENCE))


def needed(max_wrong: float, errors: int = 0) -> int:
    """The least number of labelled rows that promise ``max_wrong`` if ``errors`` of them are wrong.

    Without an error, 59 promise 5 %, and 99 promise 3 %.
    """
    low, high = errors, max(errors + 1, 16)
    while upper_bound(errors, high) > max_wrong:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if upper_bound(errors, middle) <= max_wrong else (middle, high)
    return high


def _thresholds(ordered: np.ndarray) -> np.ndarray:
    """The thresholds to test, from the highest: all scores, or of very many different ones their quantiles."""
    different = np.unique(ordered)
    if len(different) > MOST_THRESHOLDS:
        places = np.linspace(0, len(ordered) - 1, MOST_THRESHOLDS).round().astype(int)
        different = np.unique(ordered[places])
    return different[::-1]
