"""How far a figure measured on a sample can be trusted: 95 % intervals, and whether a difference may be chance.

Sources: Wilson (1927) for a share; Newcombe, Statistics in Medicine 17 (1998), method 10, for the difference of two
paired shares; the BCa bootstrap of Efron (1987), as scipy computes it, for means; the exact test of McNemar (1947) and
a paired permutation test for the question whether a difference may be chance; Connor, Biometrics 43 (1987), for the
number of pairs that would show one. Newcombe, ibid., method 10 of the paper before it, for two shares of different
images; Zou and Donner, Statistics in Medicine 27 (2008), for the same with the intervals of any two figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
POWER = 0.8  # the probability with which ``Difference.needed`` pairs would show the difference
RESAMPLES = 4000  # samples drawn with replacement
EXCHANGES = 4999  # random exchanges of before and after
BATCH = 250  # resamples at a time: bounds the memory
SEED = 0  # of resampling, so that a figure computed again is the same


class Interval(NamedTuple):
    """The bounds of a 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """After minus before on the same images.

    ``better`` and ``worse`` count the images, ``p`` is the probability of a difference at least as large if there is
    none, and ``needed`` is the number of images that would probably show a difference of this size: None if it is
    shown already, or if there is none at all.
    """

    change: float
    interval: Interval
    better: int
    worse: int
    p: float
    needed: int | None

    @property
    def verdict(self) -> str:
        """Whether the second side is "better" or "worse", or "no difference shown"."""
        if self.p >= 1 - CONFIDENCE:
            return "no difference shown"
        return "better" if self.change > 0 else "worse"


def of_mean(values: Sequence[float]) -> Interval:
    """The interval of the mean of values in 0..1, one for each image; (0, 1) if there are none."""
    if not values:
        return Interval(0.0, 1.0)
    found = np.asarray(values, float)
    if _are_shares(found) or np.ptp(found) == 0:  # equal values tell the bootstrap nothing about their spread
        return _wilson(float(found.sum()), len(found))
    bootstrapped = _bootstrap(found)
    return Interval(max(0.0, bootstrapped.low), min(1.0, bootstrapped.high))


def of_difference(before: Sequence[float], after: Sequence[float]) -> Difference:
    """The difference of the means of two sides, given their values in 0..1 for the same images in the same order.

    Raises:
        ValueError: the sides have different numbers of values, or none.
    """
    one, two = np.asarray(before, float), np.asarray(after, float)
    if len(one) != len(two) or not len(one):
        raise ValueError(f"{len(one)} values before and {len(two)} after: a comparison needs pairs")
    change = float((two - one).mean())
    better, worse = int((two > one).sum()), int((two < one).sum())
    if _are_shares(one) and _are_shares(two):
        interval, p = _newcombe(one, two), _mcnemar(better, worse)
    else:
        # Equal changes tell the bootstrap nothing about their spread.
        alike = np.ptp(two - one) == 0
        means = float(one.mean()), of_mean(before), float(two.mean()), of_mean(after)
        interval, p = of_unpaired(*means) if alike else _bootstrap(two - one), _permutation(two - one)
    shown = p < 1 - CONFIDENCE
    return Difference(change, interval, better, worse, p, None if shown or not change else _needed(one, two))


def of_unpaired(one: float, bounds_of_one: Interval, two: float, bounds_of_two: Interval) -> Interval:
    """The interval of the difference ``two - one`` of figures measured on different images, from their intervals."""
    below = math.hypot(two - bounds_of_two.low, bounds_of_one.high - one)
    above = math.hypot(bounds_of_two.high - two, one - bounds_of_one.low)
    return Interval(max(-1.0, two - one - below), min(1.0, two - one + above))


def _are_shares(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _wilson(successes: float, trials: int) -> Interval:
    z = _z(CONFIDENCE)
    share, spread = successes / trials, z * z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def _newcombe(one: np.ndarray, two: np.ndarray) -> Interval:
    """The interval of the difference of two paired shares, from their Wilson intervals and their correlation."""
    count = len(one)
    both, neither = float(((one == 1) & (two == 1)).sum()), float(((one == 0) & (two == 0)).sum())
    won, lost = float((two > one).sum()), float((two < one).sum())
    share_one, share_two = one.mean(), two.mean()
    low_one, high_one = _wilson(float(one.sum()), count)
    low_two, high_two = _wilson(float(two.sum()), count)
    product = (both + won) * (neither + lost) * (both + lost) * (neither + won)
    agreement = both * neither - won * lost
    if agreement > 0:  # continuity correction
        agreement = max(agreement - count / 2, 0.0)
    phi = agreement / math.sqrt(product) if product else 0.0
    change = share_two - share_one
    below = math.sqrt(
        (share_two - low_two) ** 2
        - 2 * phi * (share_two - low_two) * (high_one - share_one)
        + (high_one - share_one) ** 2
    )
    above = math.sqrt(
        (high_two - share_two) ** 2
        - 2 * phi * (high_two - share_two) * (share_one - low_one)
        + (share_one - low_one) ** 2
    )
    return Interval(max(-1.0, float(change - below)), min(1.0, float(change + above)))


def _mcnemar(better: int, worse: int) -> float:
    if better + worse == 0:
        return 1.0
    from scipy import stats

    return float(stats.binomtest(better, better + worse, 0.5).pvalue)


def _bootstrap(values: np.ndarray) -> Interval:
    """The interval of a mean, from means of values drawn with replacement."""
    if np.ptp(values) == 0:
        return Interval(float(values[0]), float(values[0]))
    from scipy import stats  # slow to import

    options = {"confidence_level": CONFIDENCE, "n_resamples": RESAMPLES, "batch": BATCH, "rng": SEED}
    low, high = stats.bootstrap((values,), np.mean, **options).confidence_interval
    return Interval(float(low), float(high))


def _permutation(changes: np.ndarray) -> float:
    """The share of random exchanges of before and after that change the mean at least as much."""
    moved = changes[changes != 0]
    if len(moved) < 2:  # one image alone shows nothing
        return 1.0
    from scipy import stats

    def mean(values: np.ndarray, axis: int) -> np.ndarray:
        return values.mean(axis=axis)  # type: ignore[no-any-return]

    options = {"permutation_type": "samples", "n_resamples": EXCHANGES, "batch": BATCH, "rng": SEED}
    return float(stats.permutation_test((moved,), mean, vectorized=True, **options).pvalue)


def _needed(one: np.ndarray, two: np.ndarray) -> int:
    """The number of images with which a difference like this one is shown with a probability of ``POWER``."""
    changes = two - one
    mean, spread = float(changes.mean()), float((changes**2).mean())
    total = _z(CONFIDENCE) * math.sqrt(spread) + _z(2 * POWER - 1) * math.sqrt(max(spread - mean**2, 0.0))
    return max(len(one) + 1, math.ceil((total / mean) ** 2))


def _z(confidence: float) -> float:
    """The quantile of the normal distribution on both sides of which this share lies."""
    return NormalDist().inv_cdf((1 + confidence) / 2)
