"""A labelled box in our own form, as rows hold it: ``{"label": "dog", "box": [x1, y1, x2, y2]}``.

The corners are pixels of the original image, turned upright by its EXIF tag: left, top, right, bottom. The right and
the bottom edge may be equal to the width and the height.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Size = tuple[int, int]  # width and height in pixels
Corners = tuple[float, float, float, float]

FAR = 1e6  # pixels or thousandths: outside any image
DECIMALS = 2  # of a corner that is read from a notation
# How far a corner may lie outside the image, because notations are rounded: one pixel, or a thousandth of the side.
TOLERANCE_PIXELS, TOLERANCE_SHARE = 1.0, 0.001


class BoxError(ValueError):
    """A box cannot be used; the message says which one and why."""


@dataclass(frozen=True)
class Box:
    """A labelled box in pixels of the original image."""

    label: str
    corners: Corners

    def as_row(self) -> dict[str, Any]:
        """The box as an entry of a row's ``boxes``."""
        return {"label": self.label, "box": list(self.corners)}


def from_row(value: object) -> list[Box]:
    """The boxes of a row's field ``boxes``, or the same as JSON text, as a CSV has it.

    Whether they lie in the image is for ``checked``.

    Raises:
        BoxError: it is not a list of labels with boxes.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BoxError(f'"boxes" is not JSON: {error}') from None
    if not isinstance(value, list):
        raise BoxError(f'"boxes" is {type(value).__name__}, not a list of {{"label": TEXT, "box": [x1, y1, x2, y2]}}')
    return [_entry(number, entry) for number, entry in enumerate(value, 1)]


def _entry(number: int, entry: object) -> Box:
    if not isinstance(entry, dict):
        raise BoxError(f"box {number} is {type(entry).__name__}, not an object with a label and a box")
    label, corners = entry.get("label"), entry.get("box")
    if not isinstance(label, str) or not clean(label):
        raise BoxError(f"box {number} has no label")
    if corners is None:
        raise BoxError(f"the label “{clean(label)}” has no box")
    if (read := as_corners(corners)) is None:
        raise BoxError(f"the box of “{clean(label)}” is not four numbers: left, top, right, bottom")
    return Box(clean(label), read)


def as_corners(value: object) -> Corners | None:
    """Four finite numbers as corners; None if the value is anything else."""
    if not isinstance(value, list | tuple) or len(value) != 4 or not all(map(_is_number, value)):
        return None
    x1, y1, x2, y2 = value
    return x1, y1, x2, y2


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -FAR < value < FAR  # no NaN either


def clean(label: str) -> str:
    """A label on one line, without spaces at its ends; halves of characters, which no file can hold, become “?”."""
    return " ".join(label.encode(errors="replace").decode().split())


def checked(box: Box, size: Size) -> Box:
    """The box, clipped to an image of this size if rounding has put a corner just outside it.

    Raises:
        BoxError: it lies outside the image, its corners are reversed, or it has no area.
    """
    x1, y1, x2, y2 = box.corners
    told = f"“{box.label}” [{', '.join(f'{corner:g}' for corner in box.corners)}]"
    if x1 > x2 or y1 > y2:
        raise BoxError(f"the corners of {told} are reversed: left, top, right, bottom is the order")
    for k, corner in enumerate(box.corners):
        side = size[k % 2]
        if not -_tolerance(side) <= corner <= side + _tolerance(side):
            raise BoxError(f"{told} lies outside the image of {size[0]} x {size[1]} pixels")
    clipped = Box(box.label, clip(box.corners, size))
    x1, y1, x2, y2 = clipped.corners
    if x1 == x2 or y1 == y2:
        raise BoxError(f"{told} has no area")
    return clipped


def _tolerance(side: int) -> float:
    return max(TOLERANCE_PIXELS, TOLERANCE_SHARE * side)


def clip(corners: Corners, size: Size) -> Corners:
    """The corners, moved into an image of this size."""
    x1, y1, x2, y2 = (min(max(corner, 0), size[k % 2]) for k, corner in enumerate(corners))
    return x1, y1, x2, y2


def scaled(corners: Sequence[float], size: Size, to: Size) -> Corners:
    """Corners on an image of ``size``, on one of the size ``to``."""
    x1, y1, x2, y2 = (corner / size[k % 2] * to[k % 2] for k, corner in enumerate(corners))
    return x1, y1, x2, y2
