"""Whether two images that look alike show the same: they are aligned and compared block by block, in every detail."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vd100k.images import transform
from vd100k.images.decode import opened
from vd100k.similarity.alignment import GREY, LUMA, WHOLE, Alignment, Box, refine

Floats = NDArray[np.float32]
Size = tuple[int, int]
Boxes = tuple[Box, Box]

LONGEST = 512  # pixels of the longer side, at which details are compared
ALIGNED_AT = 128  # pixels
REDUCED_TO = 3.0  # times the size that is wanted, quickly, before an image is resized well
BLOCK = 8  # pixels; about as large as a printed digit on a page of 512 pixels
BLUR = 0.8  # pixels, as compression and resizing blur
SHARPER = 1.1  # energy of the slopes, from which the sharper of two images is blurred as well
BLURS = 0.5, 0.75, 1.0, 1.3, 1.6, 2.0, 2.5  # pixels
NOISE = 30.0  # variance in levels squared that counts for nothing
TEXTURE = 60.0  # variance of a block with something to see
SEEN = 8  # blocks with something to see, at least; in smooth images, the thumbnails decide
SMOOTH = 0.3  # of the contrast, between the thumbnails of smooth images
# 1 - correlation of the worst block: above the ordinary blocks of the same pair, of which blurred images have worse.
WORST, TIMES_ORDINARY, ORDINARY, NEVER = 0.12, 1.5, 80, 0.5
COLOUR = 40.0  # levels between the mean colours of two blocks, at most
COLOUR_OF_FEW = 24.0  # the same where there is little detail
COLOUR_OF_PART = 20.0  # and where one image is a part of the other: a crop leaves colours as they are
STILL = 0.002  # of a side: what lies this close in both images, on average, has not been moved
SAME_SCALE = 0.006  # of its size: a part whose size in pixels differs by less has been cut out, and not resized
CROPPED = 0.12  # of a side may be cut off
MUCH_DETAIL = 26  # blocks of a thumbnail, of 64
PHOTOMETRIC = 0.1  # a copy that is cropped and resized has no other brightness as well
KEPT = 8  # decoded images, of 3 MB at most: the pairs of an image follow each other


@dataclass(frozen=True)
class Details:
    """How well the common part of two images agrees.

    ``worst`` is 1 - correlation of the worst block, ``ordinary`` that of the block at 80 %, ``colour`` the largest
    difference of mean colours in levels, and ``seen`` the number of blocks with something to see.
    """

    worst: float
    ordinary: float
    colour: float
    seen: int

    def agree(self, much: bool, smooth: bool, part: bool) -> bool:
        """Whether they show the same.

        It matters whether there is ``much`` detail, whether ``smooth`` images would be the same, and whether one image
        shows a ``part`` of the other.
        """
        colour = COLOUR_OF_PART if part else COLOUR if much else COLOUR_OF_FEW
        limit = min(NEVER, WORST + TIMES_ORDINARY * self.ordinary)
        enough = self.seen >= SEEN or (much and smooth)
        return enough and self.worst <= limit and self.colour <= colour


def is_copy(first: str, second: str, alignment: Alignment, pair: int) -> bool:
    """Whether two image files are copies, given how their thumbnails lie in each other.

    Raises:
        Exception: a file cannot be read any more; Pillow's decoders raise errors of many types.
    """
    images = _decoded(first), _decoded(second)
    boxes, finer, moved = _refined(images, alignment.boxes(pair))
    much = bool(alignment.detail[pair] >= MUCH_DETAIL)
    same_light = abs(float(finer.gain[0]) - 1) <= PHOTOMETRIC
    part = moved > STILL
    if part and not ((much and same_light and _is_part(boxes)) or _is_cut_out(boxes, (images[0].size, images[1].size))):
        return False
    return _details(images, boxes, finer).agree(much, bool(alignment.difference[pair] <= SMOOTH), part)


@functools.lru_cache(maxsize=KEPT)
def _decoded(path: str) -> Image.Image:
    """An image, reduced to about twice the size at which it is compared."""
    with opened(path) as image, transform.memory_for(image):
        image.draft("RGB", (2 * LONGEST, 2 * LONGEST))
        upright = transform.rgb(image)
        upright.load()
        upright.thumbnail((2 * LONGEST, 2 * LONGEST), Image.Resampling.BOX)
        return upright.copy()


def _refined(images: tuple[Image.Image, Image.Image], boxes: Boxes) -> tuple[Boxes, Alignment, float]:
    """The common parts of two images and their brightness more exactly, and how far what they show is moved."""
    square = (ALIGNED_AT, ALIGNED_AT)
    first, second = (_cut(image, box, square) for image, box in zip(images, boxes, strict=True))
    finer = refine(first, second)
    inner = finer.boxes(0)
    one, other = exact = boxes[0].part(inner[0]), boxes[1].part(inner[1])
    grey = first @ LUMA
    across = _moved((np.diff(grey, axis=1) ** 2).sum(0), (one.left, one.right), (other.left, other.right))
    down = _moved((np.diff(grey, axis=0) ** 2).sum(1), (one.top, one.bottom), (other.top, other.bottom))
    return exact, finer, max(across, down)


def _moved(slopes: Floats, one: tuple[float, float], other: tuple[float, float]) -> float:
    """How far the edges in a part of an image lie from where they are in the other, as a share of the side."""
    moves = np.linspace(other[0] - one[0], other[1] - one[1], len(slopes))
    return float(np.sqrt((slopes * moves**2).sum() / max(1.0, float(slopes.sum()))))


def _cut(image: Image.Image, box: Box, size: Size) -> Floats:
    """A part of an image at another size, in levels."""
    width, height = image.size
    left, top, right, bottom = (min(1.0, max(0.0, share)) for share in box)
    pixels = (left * width, top * height, right * width, bottom * height)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, pixels, REDUCED_TO), np.float32)


def _is_part(boxes: Boxes) -> bool:
    """Whether one image can be the other one without its margins, resized as it may be."""
    return max(max(abs(a - b) for a, b in zip(box, WHOLE, strict=True)) for box in boxes) <= CROPPED


def _is_cut_out(boxes: Boxes, sizes: tuple[Size, Size]) -> bool:
    """Whether one image is a part of the other that has not been resized.

    Many images with one plain shape each become the same when cropped and resized. So a cropped copy with little
    detail is only known if its scale was kept.
    """
    (width, height), (width_2, height_2) = (_pixels(box, size) for box, size in zip(boxes, sizes, strict=True))
    same_scale = max(abs(width / width_2 - 1), abs(height / height_2 - 1)) <= SAME_SCALE
    return same_scale and sizes[0] != sizes[1] and _is_part(boxes)


def _pixels(box: Box, size: Size) -> tuple[float, float]:
    return (box.right - box.left) * size[0], (box.bottom - box.top) * size[1]


def _details(images: tuple[Image.Image, Image.Image], boxes: Boxes, alignment: Alignment) -> Details:
    sizes = [_pixels(box, image.size) for box, image in zip(boxes, images, strict=True)]
    width, height = (min(one, other) for one, other in zip(*sizes, strict=True))
    reduced = min(1.0, LONGEST / max(width, height)) / BLOCK
    size = max(1, round(width * reduced)) * BLOCK, max(1, round(height * reduced)) * BLOCK
    parts = [_cut(image, box, size) for box, image in zip(boxes, images, strict=True)]
    dark = 1 if alignment.swapped[0] else 0
    parts[dark] = np.clip(alignment.gain[0] * parts[dark] + alignment.level[0], 0, 255)
    return compare(parts[0], parts[1])


def compare(first: Floats, second: Floats) -> Details:
    """The details of two aligned RGB images, in levels."""
    from scipy.ndimage import gaussian_filter  # slow to import

    greys = _equally_sharp(*(gaussian_filter(image @ LUMA, BLUR) for image in (first, second)))
    one, other = (blocks - blocks.mean(-1, keepdims=True) for blocks in map(_blocks, greys))
    variances = (one**2).mean(-1), (other**2).mean(-1)
    correlation = ((one * other).mean(-1) + NOISE) / np.sqrt((variances[0] + NOISE) * (variances[1] + NOISE))
    apart = (1 - correlation)[np.maximum(*variances) > TEXTURE]
    worst, ordinary = (float(apart.max()), float(np.percentile(apart, ORDINARY))) if apart.size else (0.0, 0.0)
    means = [np.stack([_blocks(image[..., k]).mean(-1) for k in range(3)], -1) for image in (first, second)]
    if any(float(np.percentile(np.ptp(mean, axis=-1), 99)) < GREY for mean in means):
        means = [mean @ LUMA for mean in means]
    return Details(worst, ordinary, float(np.abs(means[0] - means[1]).max()), int(apart.size))


def _equally_sharp(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    """The same images, the sharper one of which is blurred until it is about as sharp as the other."""
    from scipy.ndimage import gaussian_filter

    if _sharpness(one) < _sharpness(other):
        other, one = _equally_sharp(other, one)
        return one, other
    blurred, wanted = one, _sharpness(other) * SHARPER
    for sigma in BLURS:
        if _sharpness(blurred) <= wanted:
            break
        blurred = gaussian_filter(one, sigma)
    return blurred, other


def _sharpness(image: Floats) -> float:
    return float(sum((np.diff(image, axis=axis) ** 2).mean() for axis in (0, 1)))


def _blocks(image: Floats) -> Floats:
    """The pixels of the blocks of a grey image, of the shape (rows, columns, pixels)."""
    rows, columns = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    return image.reshape(rows, BLOCK, columns, BLOCK).transpose(0, 2, 1, 3).reshape(rows, columns, BLOCK**2)
