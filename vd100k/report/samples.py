"""A few of many rows, how all are spread, and small pictures."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

Row = dict[str, Any]

PARSED = 5000  # rows of a file that are looked at: enough for a histogram, and quick
SIDE = 320  # pixels, of a picture on the page
BINS = 12


def rows(path: Path, most: int = PARSED) -> list[Row]:
    """Rows of a JSONL file, evenly spaced, ``most`` at the most; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open("rb") as lines:
        step = -(-sum(1 for _ in lines) // most) or 1
    with path.open("rb") as lines:
        return list(_parsed(islice(lines, 0, None, step)))


def _parsed(lines: Iterator[bytes]) -> Iterator[Row]:
    for line in lines:
        with contextlib.suppress(orjson.JSONDecodeError):
            row = orjson.loads(line)
            if isinstance(row, dict):
                yield row


def spread(of: list[Row], most: int) -> list[Row]:
    """``most`` rows, evenly spaced."""
    return of[:: -(-len(of) // most) or 1]


def histogram(values: list[int]) -> list[tuple[str, int]]:
    """How many of the values lie in each of some ranges of whole numbers."""
    if not values:
        return []
    low, high = min(values), max(values)
    width = -(-(high - low + 1) // BINS)
    counts = [0] * (-(-(high - low + 1) // width))
    for value in values:
        counts[(value - low) // width] += 1
    names = ((low + k * width, low + (k + 1) * width - 1) for k in range(len(counts)))
    return [(f"{a}" if a == b else f"{a} – {b}", n) for (a, b), n in zip(names, counts, strict=True)]


def thumbnail(path: object) -> str | None:
    """The image, small, as a ``data:`` URL; None if it cannot be shown."""
    from PIL import Image

    from vd100k import pixels

    try:
        with Image.open(str(path)) as image:
            image.draft("RGB", (2 * SIDE, 2 * SIDE))
            small = pixels.rgb(image)
    except Exception:  # whatever Pillow's decoders stumble over: the page goes without
        return None
    small.thumbnail((SIDE, SIDE))
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", quality=75)
    return data_url("image/webp", encoded.getvalue())


def data_url(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
