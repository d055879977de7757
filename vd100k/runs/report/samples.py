"""Samples of the rows of a file, histograms, and thumbnails of images."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vd100k.images.find import within
from vd100k.io import jsonl
from vd100k.io.jsonl import Row

PARSED = 5000  # rows of a file that are parsed: enough for a histogram, and fast
SIDE = 320  # pixels, the longest side of a thumbnail
BINS = 12


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


def spread(rows: list[Row], most: int) -> list[Row]:
    """At most ``most`` rows, evenly spaced."""
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


def thumbnail(path: object, folders: list[str]) -> str | None:
    """A thumbnail of the image file as a ``data:`` URL; None if it cannot be read.

    A row may name any file, and the page is made to be sent on. So nothing outside the declared ``folders`` is read,
    whether it is named by its path or through a link. A relative name is one in the first folder that has it.
    """
    from vd100k.images import transform
    from vd100k.images.decode import opened

    inside = (within(Path(folder), path) for folder in folders) if isinstance(path, str) and path else ()
    file = next((one for one in inside if one and one.is_file()), None)
    if file is None:
        return None
    try:
        with opened(file) as image:
            image.draft("RGB", (2 * SIDE, 2 * SIDE))
            small = transform.rgb(image)
    except Exception:  # Pillow's decoders raise errors of many types
        return None
    small.thumbnail((SIDE, SIDE))
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", quality=75)
    return data_url("image/webp", encoded.getvalue())


def data_url(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
