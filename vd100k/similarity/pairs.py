"""Which of some pairs of images are copies: their thumbnails are compared first, then the pixels of those alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vd100k.similarity import confirm
from vd100k.similarity.alignment import Alignment, Pixels, align

LITTLE_DETAIL = 3  # blocks of a thumbnail with something to see: fewer, and only equal files are copies
DIFFERENCE = 1.0  # of the contrast of a thumbnail, in any of its blocks after the alignment
GAIN, LEVEL = (0.7, 2.0), 60.0  # the change of brightness
MOVED = 0.2  # the largest shift, and change of size
PROPORTIONS = 1.2  # the widths divided by the heights, one by the other


class Pairs(NamedTuple):
    """Pairs of images that may be copies."""

    numbers: NDArray[np.int64]  # of the images, of the shape (pairs, 2)
    thumbnails: list[Pixels]  # of the first and of the second images, each of the shape (pairs, side, side, 3)
    sizes: list[NDArray[np.float64]]  # in pixels, each of the shape (pairs, 2)
    paths: list[tuple[str, str]]  # the two files of each pair


def comparer() -> Callable[[Pairs], list[tuple[int, int]]]:
    """What a process that shares the work does with pairs."""
    return copies


def copies(pairs: Pairs) -> list[tuple[int, int]]:
    """The numbers of the images of those pairs that are copies. Files that cannot be read any more are none."""
    kept, alignment = align(*pairs.thumbnails)
    similar = _is_similar(alignment) & _same_proportions(*(sizes[kept] for sizes in pairs.sizes))
    found = []
    for k in np.flatnonzero(similar).tolist():
        if _show_the_same(pairs.paths[kept[k]], alignment, k):
            first, second = pairs.numbers[kept[k]].tolist()
            found.append((first, second))
    return found


def _show_the_same(paths: tuple[str, str], alignment: Alignment, pair: int) -> bool:
    try:
        return confirm.is_copy(*paths, alignment, pair)
    except Exception:  # the file has changed; Pillow's decoders raise errors of many types
        return False


def _is_similar(alignment: Alignment) -> NDArray[np.bool_]:
    """Which pairs may be copies as far as thumbnails show it; images with little to see are none."""
    moved = np.max(
        [abs(alignment.left), abs(alignment.top), abs(alignment.width - 1), abs(alignment.height - 1)], axis=0
    )
    brightness = (alignment.gain >= GAIN[0]) & (alignment.gain <= GAIN[1]) & (abs(alignment.level) <= LEVEL)
    close: NDArray[np.bool_] = (alignment.difference <= DIFFERENCE) & (moved <= MOVED) & brightness
    return close & (alignment.detail >= LITTLE_DETAIL)


def _same_proportions(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.bool_]:
    ratios = first[:, 0] * second[:, 1] / (first[:, 1] * second[:, 0])
    same: NDArray[np.bool_] = np.maximum(ratios, 1 / ratios) <= PROPORTIONS
    return same
