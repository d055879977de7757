"""What an evaluation says about the certainty of its figures, for ``summary.json``, the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Certainty = dict[str, Any]


def certainty(scores: Mapping[str, Sequence[Mapping[str, float]]]) -> Certainty:
    """The 95 % intervals of all figures by side, and the changes from the first to the last of several sides.

    ``scores`` has the scores of each side, of the same images in the same order. The result is
    ``{"images": int, "intervals": {side: {figure: [low, high]}}, "changes": {figure: {"change", "low", "high",
    "better", "worse", "p", "verdict", "needed"}}}``, with shares from 0 to 1. Without images, nothing is known: the
    intervals are (0, 1).
    """
    from vd100k.evaluation.metrics import ALWAYS

    rows = list(scores.values())
    names = list(rows[0][0]) if rows[0] else list(ALWAYS)
    parts = {name: part(name, {side: [one[name] for one in found] for side, found in scores.items()}) for name in names}
    intervals = {side: {name: parts[name]["intervals"][side] for name in names} for side in scores}
    changes = {name: found["change"] for name, found in parts.items() if found["change"]}
    return {"images": len(rows[0]), "intervals": intervals, "changes": changes}


def part(name: str, values: Mapping[str, Sequence[float]]) -> Certainty:
    """One figure of a part of the images, such as a slice: ``values`` are those of each side for the same images.

    The result is ``{"name", "images", "figures": {side: mean}, "intervals": {side: [low, high]}, "change"}``; the
    change is None for a single side, and without images.
    """
    from vd100k.evaluation.intervals import of_mean  # imports numpy, and every run imports this module for its words

    sides = list(values.values())
    images = len(sides[0])
    return {
        "name": name,
        "images": images,
        "figures": {side: round(sum(found) / images, 4) if images else 0.0 for side, found in values.items()},
        "intervals": {side: _rounded(of_mean(found)) for side, found in values.items()},
        "change": change(sides[0], sides[-1]) if len(sides) > 1 and images else None,
    }


def change(before: Sequence[float], after: Sequence[float]) -> Certainty:
    """The change between two sides, given their values for the same images."""
    from vd100k.evaluation.intervals import of_difference

    found = of_difference(before, after)
    low, high = _rounded(found.interval)
    return {
        "change": round(found.change, 4),
        **{"low": low, "high": high, "better": found.better, "worse": found.worse},
        **{"p": float(f"{found.p:.3g}"), "verdict": found.verdict, "needed": found.needed},
    }


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


def remembered(change: Mapping[str, Any]) -> str:
    """What a change on another task means: "forgot: -12 points (-20 to -4)"."""
    words = {"worse": "forgot", "better": "improved"}
    known = words.get(change["verdict"])
    return f"{known}: {brief(change)}" if known else f"{verdict(change)}: {brief(change)}"


def _rounded(bounds: Sequence[float]) -> list[float]:
    return [round(bound, 4) for bound in bounds]
