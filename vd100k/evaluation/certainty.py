"""What an evaluation says about the certainty of its figures, for ``summary.json``, the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vd100k.evaluation.metrics import Score

Certainty = dict[str, Any]


def certainty(scores: Mapping[str, Sequence[Score]]) -> Certainty:
    """The 95 % intervals of all figures by side, and the changes from the first to the last of several sides.

    ``scores`` has the scores of each side, of the same images in the same order. The result is
    ``{"images": int, "intervals": {side: {figure: [low, high]}}, "changes": {figure: {"change", "low", "high",
    "better", "worse", "p", "verdict", "needed"}}}``, with shares from 0 to 1. Without images, nothing is known: the
    intervals are (0, 1).
    """
    from vd100k.evaluation.intervals import of_mean  # imports numpy, and every run imports this module for its words

    by_side = {side: _columns(rows) for side, rows in scores.items()}
    intervals = {
        side: {name: _rounded(of_mean(values)) for name, values in columns.items()} for side, columns in by_side.items()
    }
    first, last = next(iter(by_side.values())), list(by_side.values())[-1]
    images = len(next(iter(first.values())))
    changes = {name: _change(first[name], last[name]) for name in first} if images and len(by_side) > 1 else {}
    return {"images": images, "intervals": intervals, "changes": changes}


def brief(change: Mapping[str, Any]) -> str:
    """A change with its interval: "+71 points (63 to 78)"."""
    return f"{100 * change['change']:+.3g} points ({100 * change['low']:.3g} to {100 * change['high']:.3g})"


def told(change: Mapping[str, Any]) -> str:
    """A change with the number of images on which it is one: "+71 points (63 to 78), 142 better, 3 worse"."""
    return f"{brief(change)}, {change['better']:,} better, {change['worse']:,} worse"


def share(value: float, bounds: Sequence[float] | None, digits: int = 1) -> str:
    """A share as a percentage, with its interval if it is known: "21.6 % (11 to 38)"."""
    interval = f" ({100 * bounds[0]:.0f} to {100 * bounds[1]:.0f})" if bounds else ""
    return f"{100 * value:.{digits}f} %{interval}"


def verdict(change: Mapping[str, Any]) -> str:
    """Whether the change is more than chance, and if that is not shown, how many images would show it."""
    if change["verdict"] != "no difference shown" or not change["needed"]:
        return str(change["verdict"])
    return f"no difference shown; {change['needed']:,} images would show one of this size"


def _columns(rows: Sequence[Score]) -> dict[str, list[float]]:
    columns = {name: [getattr(row, name) for row in rows] for name in Score._fields}
    return {name: list(map(float, values)) for name, values in columns.items() if None not in values}


def _change(before: Sequence[float], after: Sequence[float]) -> dict[str, Any]:
    from vd100k.evaluation.intervals import of_difference

    found = of_difference(before, after)
    low, high = _rounded(found.interval)
    return {
        "change": round(found.change, 4),
        **{"low": low, "high": high, "better": found.better, "worse": found.worse},
        **{"p": float(f"{found.p:.3g}"), "verdict": found.verdict, "needed": found.needed},
    }


def _rounded(bounds: Sequence[float]) -> list[float]:
    return [round(bound, 4) for bound in bounds]
