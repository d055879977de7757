"""What an image looks like, in 3 KB: perceptual hashes that find images like it, and a thumbnail to compare them by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32  # pixels of the thumbnail
HASH_SIDE, LOW_SIDE = 16, 8  # frequencies in each direction: of the whole hash, and of those that a crop moves least
WORKED_ON = 200  # pixels; the size from which the hashes are computed
TRIMMED = 4  # of these pixels on each side, for the hash of a cropped image

LOOK = np.dtype(
    [
        ("key", "<u8"),  # of the file: its path, size and time of change
        ("content", "<u8"),  # a hash of the file's bytes
        ("size", "<u4", 2),  # width and height in pixels, upright
        ("plain", "u1"),  # 1 if every program decodes the file alike (``images.transform.is_plain``)
        ("hash", "u1", HASH_SIDE * HASH_SIDE // 8),
        ("trimmed", "u1", LOW_SIDE * LOW_SIDE // 8),  # the low frequencies of the image without its margins
    ]
)
Looks = NDArray[np.void]  # of the type ``LOOK``
Pixels = NDArray[np.uint8]


def hashes(image: Image.Image) -> tuple[Pixels, Pixels]:
    """The hash of an upright image and that of the image without its margins, in 32 and 8 bytes.

    The hash is pHash, the signs of the low frequencies of the image's cosine transform. A crop moves the content of
    an image, and most of all its high frequencies. So low frequencies of a slightly smaller part are kept too: they
    are close to those of a cropped copy.
    """
    import imagehash  # slow to import

    grey = image.convert("L").resize((WORKED_ON, WORKED_ON), Image.Resampling.BILINEAR)
    low, high = TRIMMED, WORKED_ON - TRIMMED
    whole = imagehash.phash(grey, HASH_SIDE).hash
    trimmed = imagehash.phash(grey.crop((low, low, high, high)), HASH_SIDE).hash
    return np.packbits(whole), np.packbits(trimmed[:LOW_SIDE, :LOW_SIDE])


def thumbnail(image: Image.Image, side: int = SIDE) -> Pixels:
    """The image as ``side`` x ``side`` RGB pixels, each the mean of the area that it covers."""
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BOX))


def low_frequencies(whole: Pixels) -> Pixels:
    """The low frequencies of hashes of the shape (images, 32), of the shape (images, 8), as ``trimmed`` has them."""
    rows = whole.reshape(len(whole), HASH_SIDE, HASH_SIDE // 8)
    return np.ascontiguousarray(rows[:, :LOW_SIDE, 0])
