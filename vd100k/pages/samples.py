"""Samples of the rows of a file, and histograms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vd100k.io import jsonl
from vd100k.io.jsonl import Row

PARSED = 5000  # rows of a file that are parsed: enough for a histogram, and fast
BINS = 12
LONGEST = 1500  # characters of a text


@dataclass(frozen=True)
class Sample:
    """Evenly spaced rows of a file, and the number of its lines."""

    rows: list[Row]
    total: int

    @property
    def note(self) -> str:
        """An addition to a title if only some of the rows were parsed, otherwise empty."""
        return f" ({len(self.rows):,} of {self.total:,} rows)" if len(self.rows) < self.total else ""


def sample(path: Path, most: int = PARSED) -> Sample:
    """At most ``most`` rows of a JSONL file; none if the file is missing."""
    if not path.is_file():
        return Sample([], 0)
    with path.open("rb") as file:
        total = sum(1 for _ in file)
    step = -(-total // most) or 1
    return Sample(list(_rows(path, step)), total)


def by_reason(path: Path, most: int) -> dict[str, tuple[int, list[Row]]]:
    """The number of rows with each ``reason`` in a JSONL file and the first ``most`` of them, most frequent first."""
    found: dict[str, tuple[int, list[Row]]] = {}
    if path.is_file():
        for row in _rows(path):
            count, first = found.get(str(row.get("reason")), (0, []))
            found[str(row.get("reason"))] = count + 1, [*first, row] if len(first) < most else first
    return dict(sorted(found.items(), key=lambda pair: -pair[1][0]))


def _rows(path: Path, step: int = 1) -> Iterator[Row]:
    """The rows on every ``step``-th line of a file, without lines that are not JSON objects."""
    return (row for _, row in jsonl.read(path, step) if isinstance(row, dict))


def spread(rows: list[Any], most: int) -> list[Any]:
    """At most ``most`` of the rows, evenly spaced."""
    return rows[:: -(-len(rows) // most) or 1]


def histogram(values: list[int]) -> list[tuple[str, int]]:
    """The number of values in each of at most ``BINS`` ranges of integers, with the range as text."""
    if not values:
        return []
    low, high = min(values), max(values)
    width = -(-(high - low + 1) // BINS)
    counts = [0] * (-(-(high - low + 1) // width))
    for value in values:
        counts[(value - low) // width] += 1
    names = ((low + k * width, low + (k + 1) * width - 1) for k in range(len(counts)))
    return [(f"{a}" if a == b else f"{a} – {b}", n) for (a, b), n in zip(names, counts, strict=True)]


def clip(value: object) -> str:
    """A value as text, of at most ``LONGEST`` characters."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"
