"""Which of several runs is the best by a figure, and which others may be as good."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vd100k.evaluation.certainty import brief, change, share
from vd100k.io import fingerprint, jsonl
from vd100k.runs.summary import figures

Content = dict[str, Any]  # of a summary.json
ROWS = ".compared.jsonl"


class Standing(NamedTuple):
    """How a run compares with the best one: "best", "within noise" or "worse", and by how much."""

    word: str
    detail: str = ""

    @property
    def told(self) -> str:
        return f"{self.word}: {self.detail}" if self.detail else self.word


@dataclass(frozen=True)
class Measured:
    """A figure with its interval, and that of each image by id if the rows are still there."""

    value: float
    low: float
    high: float
    by_id: dict[str, float]


def told(summary: Content, figure: str) -> str | None:
    """A figure with its interval, such as "95.0 % (91 to 97)"; None if its interval is not known."""
    bounds = interval(summary, figure)
    return share(figures(summary)[figure], bounds) if bounds else None


def interval(summary: Content, figure: str) -> list[float] | None:
    """The bounds of a figure such as ``after/exact_match``; None if they are not known."""
    side, _, name = figure.rpartition("/")
    known = (summary.get("certainty") or {}).get("intervals", {})
    return known.get(side, {}).get(name) if figure in figures(summary) else None


def standings(summaries: Sequence[Content], figure: str, best: int | None = None) -> list[Standing | None]:
    """How each run compares with the best by a figure; None where no interval is known.

    ``best`` is its number; by default it is the run with the highest figure. Two runs that evaluated the same images
    are compared image by image, others by Newcombe's interval of the difference.
    """
    measured = [_measured(one, figure) for one in summaries]
    known = [number for number, one in enumerate(measured) if one]
    if len(known) < 2 or (best is not None and best not in known):
        return [None] * len(measured)
    top = best if best is not None else max(known, key=lambda number: _value(measured[number]))
    leader = measured[top]
    assert leader is not None
    return [
        None if one is None else Standing("best") if number == top else _compared(leader, one)
        for number, one in enumerate(measured)
    ]


def sentence(names: Sequence[str], standings: Sequence[Standing | None]) -> str:
    """How runs compare with the best one, by their names."""
    return "; ".join(f"{name} {one.told}" for name, one in zip(names, standings, strict=True) if one)


def _value(measured: Measured | None) -> float:
    return measured.value if measured else 0.0


def _compared(best: Measured, other: Measured) -> Standing:
    if best.by_id and best.by_id.keys() == other.by_id.keys():
        found = change(list(best.by_id.values()), [other.by_id[id] for id in best.by_id])
        within = found["verdict"] == "no difference shown"
        where = f"on the same {len(best.by_id):,} images"
    else:
        from vd100k.evaluation.intervals import Interval, of_unpaired  # imports numpy

        low, high = of_unpaired(best.value, Interval(best.low, best.high), other.value, Interval(other.low, other.high))
        found = {"change": other.value - best.value, "low": low, "high": high}
        within, where = low <= 0 <= high, "not image by image"
    word = "within noise" if within else "worse" if found["change"] < 0 else "better"
    return Standing(word, f"{brief(found)} {where}")


def _measured(summary: Content, figure: str) -> Measured | None:
    bounds = interval(summary, figure)
    if not bounds:
        return None
    first = next((fact for fact in summary["outputs"] if str(fact["path"]).endswith(ROWS)), None)
    by_id = _scores(str(first["path"]), first["sha256"]).get(figure, {}) if first else {}
    return Measured(figures(summary)[figure], bounds[0], bounds[1], by_id)


@functools.lru_cache(maxsize=256)
def _scores(path: str, sha256: str) -> dict[str, dict[str, float]]:
    """The scores in a file of compared answers by figure and image; none if a later run has written over it."""
    found: dict[str, dict[str, float]] = {}
    if not Path(path).is_file() or fingerprint.of_file(Path(path)) != sha256:
        return found
    for row in jsonl.read_rows(Path(path)):
        sides = row.get("scores")
        for side, scores in sides.items() if isinstance(sides, dict) else ():
            for name, value in scores.items() if isinstance(scores, dict) else ():
                if isinstance(value, int | float):
                    found.setdefault(f"{side}/{name}", {})[str(row.get("id"))] = float(value)
    return found
