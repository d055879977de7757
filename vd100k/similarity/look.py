"""What an image looks like, in 3 KB: perceptual hashes that find images like it, and a thumbnail to compare them by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32  # pixels of the thumbnail
HASH_SIDE, LOW_SIDE = 16, 8  # frequencies in each direction: of the whole hash, and of those that a crop moves least
WORKED_ON = 200  # pixels; the size from which the hashes are computed
TRIMMED = 8  # of these pixels on each side, for the hash of a cropped image
EDGE = 12  # levels from a pixel to the next where the content of a page begins
LEAST_FRAME = 20  # of these pixels; what has less content than that is not framed

LOOK = np.dtype(
    [
        ("key", "<u8"),  # of the file: its path, size and time of change
        ("content", "<u8"),  # a hash of the file's bytes
        ("size", "<u4", 2),  # width and height in pixels, upright
        ("plain", "u1"),  # 1 if every program decodes the file alike (``images.transform.is_plain``)
        ("hash", "u1", HASH_SIDE * HASH_SIDE // 8),
        ("framed", "u1", HASH_SIDE * HASH_SIDE // 8),  # the same of the content without plain margins
        ("trimmed", "u1", LOW_SIDE * LOW_SIDE // 8),  # the low frequencies of the image without its edges
    ]
)
Looks = NDArray[np.void]  # of the type ``LOOK``
Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]


class Hashes(NamedTuple):
    """The hashes of one or several images, of 32, 32 and 8 bytes an image."""

    whole: Pixels
    framed: Pixels
    trimmed: Pixels

    @property
    def low(self) -> Pixels:
        """The low frequencies of the whole images, of the shape (images, 8), as ``trimmed`` has them."""
        rows = self.whole.reshape(len(self.whole), HASH_SIDE, HASH_SIDE // 8)
        return np.ascontiguousarray(rows[:, :LOW_SIDE, 0])


def hashes(image: Image.Image) -> Hashes:
    """The hashes of an upright image.

    A hash is pHash, the signs of the low frequencies of the image's cosine transform. A crop moves the content of an
    image, and most of all its high frequencies. So two more hashes are kept. That of the content without plain margins
    is the same for a page or a drawing whose margins were cut. The low frequencies of a slightly smaller part are close
    to those of any cropped copy.
    """
    import imagehash  # slow to import

    grey = image.convert("L").resize((WORKED_ON, WORKED_ON), Image.Resampling.BILINEAR)
    low, high = TRIMMED, WORKED_ON - TRIMMED
    frame = _frame(np.asarray(grey, np.int16))
    whole, framed, trimmed = (
        imagehash.phash(part, HASH_SIDE).hash for part in (grey, grey.crop(frame), grey.crop((low, low, high, high)))
    )
    return Hashes(np.packbits(whole), np.packbits(framed), np.packbits(trimmed[:LOW_SIDE, :LOW_SIDE]))


def _frame(grey: NDArray[np.int16]) -> Box:
    """Where the content of an image begins and ends: at the first rows and columns with at least two edges."""
    edges = [np.abs(np.diff(grey, axis=axis, append=grey.take([-1], axis))) > EDGE for axis in (0, 1)]
    sides = []
    for axis in (0, 1):
        filled = np.flatnonzero((edges[0] | edges[1]).sum(axis) >= 2)
        if len(filled) < 2 or filled[-1] - filled[0] < LEAST_FRAME:
            return 0, 0, WORKED_ON, WORKED_ON
        sides.append((int(filled[0]), int(filled[-1]) + 1))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


def thumbnail(image: Image.Image, side: int = SIDE) -> Pixels:
    """The image as ``side`` x ``side`` RGB pixels, each the mean of the area that it covers."""
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BOX))
