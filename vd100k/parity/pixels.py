"""Images out of the patches that a model gets, and whether two of them show the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # height x width x 3
Grid = tuple[int, int, int]  # frames, rows and columns of patches
ORIENTATIONS = ("mirrored", "turned by 180°", "flipped", "transposed", "turned by 90°", "transversed", "turned by 270°")
# How much two encodings of one image may differ, on the scale from 0 to 255: a PNG or a JPEG, reduced by Pillow or by
# torchvision. The mean over blocks may differ by MEAN, or by a share of the contrast of the image. Small blocks show in
# which direction it lies, but keep noise of a JPEG; larger ones show its colours, and average the noise out.
MEAN = 1.0
SHARES = ((0.5, 0.4), (2.0, 0.1))  # the side of a block in patches, and the share
MOST = 48.0  # in any of the small blocks


def from_patches(flat: NDArray[np.uint8], grid: Grid, patch: int, merge: int, frames: int) -> Pixels:
    """The image of the patches of Qwen-VL: the first of each patch's ``frames``.

    ``flat`` has a row for each patch, with its channels, frames, rows and columns. Patches that become one token
    (``merge`` x ``merge``) follow each other.

    Source: ``_preprocess`` in transformers' Qwen2-VL image processor.
    """
    _, rows, columns = grid
    blocks = flat.reshape(rows // merge, columns // merge, merge, merge, -1, frames, patch, patch)[:, :, :, :, :, 0]
    return np.ascontiguousarray(blocks.transpose(0, 2, 5, 1, 3, 6, 4).reshape(rows * patch, columns * patch, -1))


def orientations(image: Pixels) -> Iterator[tuple[str, Pixels]]:
    """The seven other ways to turn an image, as the orientations 2 to 8 of EXIF do."""
    mirrored, flipped = image[:, ::-1], image[::-1]
    transposed = image.transpose(1, 0, 2)
    turned = (mirrored, image[::-1, ::-1], flipped, transposed, transposed[:, ::-1])
    yield from zip(ORIENTATIONS, (*turned, transposed[::-1, ::-1], transposed[::-1]), strict=True)


def alike(one: Pixels, other: Pixels, patch: int) -> bool:
    """Whether two images show the same, apart from how they were reduced and compressed."""
    if one.shape != other.shape:
        return False
    for sides, share in SHARES:
        first, second = (_blocks(image, round(sides * patch)) for image in (one, other))
        difference = np.abs(first - second)
        contrast = float(np.abs(first - first.mean(axis=(0, 1))).mean())
        if difference.mean() > max(MEAN, share * contrast) or (sides < 1 and difference.max() > MOST):
            return False
    return True


def difference(one: Pixels, other: Pixels) -> float:
    """The mean difference of two images of one size, on the scale from 0 to 255."""
    return float(np.abs(one.astype(np.int16) - other).mean())


def _blocks(image: Pixels, side: int) -> NDArray[np.float32]:
    """The mean colours of blocks of ``side`` pixels."""
    height, width = image.shape[0] // side, image.shape[1] // side
    whole = image[: height * side, : width * side].astype(np.float32)
    blocks: NDArray[np.float32] = whole.reshape(height, side, width, side, -1).mean(axis=(1, 3))
    return blocks
