"""How one image lies in another: the best crop and brightness that turn one thumbnail into the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Numbers = NDArray[np.int64]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# The widths of the blur in pixels, with the number of steps that are taken at each.
REFINING, FINE = (2.0, 2), (0.7, 3)
START = 2.0  # the same when starts are compared
BLOCKS = 8  # in each direction; differences and detail are measured in blocks
BLACK, WHITE = 4, 250  # beyond these levels a brightened image may be clipped
GREY = 8  # levels between the channels of an image that has no colours, at most
ALIKE = 0.8  # correlation at the start; less similar images are not looked at more closely
CUTS = np.linspace(0, 0.08, 6)  # of a side, that may have been cut off on either side
FAINT = 3  # levels that are added to the contrast, so that noise does not count as a difference
EDGE = 4  # levels from a pixel to the next, from which there is something to see
SIZES = 0.8, 1.25  # of what one image shows, as a share of the other
FARTHEST = 0.2  # shift, as a share of the image
# Weights that keep what the pixels do not decide at "no change": the gain and level, then shifts and scales.
STIFFNESS = np.array([1, 1, 30, 30, 30, 30], np.float32) * 3e-3


@dataclass(frozen=True)
class Alignment:
    """What turns the darker images of some pairs into the brighter ones; an array of one number a pair each.

    A pixel at (x, y) of the brighter image, in 0..1, is at (left + width * x, top + height * y) of the darker one, and
    has ``gain`` times its value plus ``level``. ``difference`` is the largest difference that remains in any block,
    as a share of the images' contrast, and ``detail`` the number of blocks with something to see, of 64.
    """

    left: Floats
    width: Floats
    top: Floats
    height: Floats
    gain: Floats
    level: Floats
    difference: Floats
    detail: Floats
    swapped: NDArray[np.bool_]  # whether the second image is the darker one

    def boxes(self, pair: int) -> tuple[Box, Box]:
        """The parts of the first and the second image of a pair that show the same, as shares of their sides."""
        (left, right), (left_2, right_2) = _common(float(self.left[pair]), float(self.width[pair]))
        (top, bottom), (top_2, bottom_2) = _common(float(self.top[pair]), float(self.height[pair]))
        dark, bright = Box(left, top, right, bottom), Box(left_2, top_2, right_2, bottom_2)
        return (bright, dark) if self.swapped[pair] else (dark, bright)


class Box(NamedTuple):
    """A part of an image, as shares of its sides."""

    left: float
    top: float
    right: float
    bottom: float

    def part(self, inner: Box) -> Box:
        """A part of this part, given in shares of it."""
        width, height = self.right - self.left, self.bottom - self.top
        return Box(
            self.left + width * inner.left,
            self.top + height * inner.top,
            self.left + width * inner.right,
            self.top + height * inner.bottom,
        )


WHOLE = Box(0, 0, 1, 1)


def _common(start: float, size: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """What two images share along one side, if the second begins at ``start`` and is ``size`` of the first."""
    first, last = max(0.0, -start / size), min(1.0, (1 - start) / size)
    return (start + size * first, start + size * last), (first, last)


def align(first: Pixels, second: Pixels) -> tuple[Numbers, Alignment]:
    """Align pairs of square RGB images of the shape (pairs, side, side, 3), with all that separates crop and colours.

    Returned are the numbers of the pairs that are alike at the start, and the alignment of these pairs.

    Least squares for crop, gain and level together (Lucas and Kanade, 1981), from the start that fits best. Pixels that
    are clipped in the brighter image have no say. If one of two images has no colours, their brightness is compared.
    """
    a, b, swapped = _darker_first(*_comparable(first.astype(np.float32), second.astype(np.float32)))
    fit, alike = _start(a, b)
    kept = np.flatnonzero(alike >= ALIKE)
    return kept, _finely(fit.chosen(kept), a[kept], b[kept], swapped[kept])


def refine(first: Floats, second: Floats) -> Alignment:
    """The alignment of two square RGB images, (side, side, 3), that nearly cover each other."""
    a, b, swapped = _darker_first(*_comparable(first[None], second[None]))
    fit, smooth = _Fit(1), (_blurred(a, REFINING[0]), _blurred(b, REFINING[0]))
    for _ in range(REFINING[1]):
        fit.improve(*smooth)
    return _finely(fit, a, b, swapped)


def _darker_first(a: Floats, b: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    swapped = a.mean((1, 2, 3)) > b.mean((1, 2, 3))
    which = swapped[:, None, None, None]
    return np.where(which, b, a), np.where(which, a, b), swapped


def _start(dark: Floats, bright: Floats) -> tuple[_Fit, Floats]:
    """Where a fit begins for each pair, and how far the images agree then: uncut, or cut as their profiles are.

    A profile is the mean of an image along one side. One of the images may be the other without some of its edges.
    """
    greys, smooth = [images @ LUMA for images in (dark, bright)], [_blurred(images, START) for images in (dark, bright)]
    left, width, alike_across = _cuts(*(grey.mean(1) for grey in greys))
    top, height, alike_down = _cuts(*(grey.mean(2) for grey in greys))
    which = (alike_across + alike_down).argmax(0), np.arange(len(dark))
    uncut, fit = _Fit(len(dark)), _Fit(len(dark))
    fit.left, fit.width, fit.top, fit.height = left[which], width[which], top[which], height[which]
    as_it_is, correlation = uncut.correlation(*smooth), fit.correlation(*smooth)
    fit.replace(as_it_is >= correlation, uncut)
    return fit, np.maximum(as_it_is, correlation)


def _cuts(dark: Floats, bright: Floats) -> tuple[Floats, Floats, Floats]:
    """Where the brighter images begin in the darker ones along one side, their size, and how far the profiles agree.

    All are of the shape (2, pairs): if the brighter image is a part of the darker one, and if it is the other way.
    """
    first, last = (cut.ravel().astype(np.float32) for cut in np.meshgrid(CUTS, CUTS))
    size = 1 - first - last
    cuts = _interpolation(first, size, dark.shape[1])[0].transpose(0, 2, 1)
    alike = np.stack([_agreement(one @ cuts, other) for one, other in ((dark, bright), (bright, dark))])
    best = alike.argmax(1)
    starts, sizes = np.stack([first, -first / size]), np.stack([size, 1 / size])
    return np.take_along_axis(starts, best, 1), np.take_along_axis(sizes, best, 1), alike.max(1)


def _agreement(cut: Floats, other: Floats) -> Floats:
    """The correlation of profiles (cuts, pairs, side) with others (pairs, side)."""
    one, two = (values - values.mean(-1, keepdims=True) for values in (cut, other))
    correlation: Floats = (one * two).sum(-1) / np.sqrt((one**2).sum(-1) * (two**2).sum(-1) + 1)
    return correlation


def _finely(fit: _Fit, dark: Floats, bright: Floats, swapped: NDArray[np.bool_]) -> Alignment:
    """The alignment after the last steps."""
    dark, bright = (_blurred(images, FINE[0]) for images in (dark, bright))
    for _ in range(FINE[1]):
        fit.improve(dark, bright)
    return _finished(fit, dark, bright, swapped)


def _finished(fit: _Fit, dark: Floats, bright: Floats, swapped: NDArray[np.bool_]) -> Alignment:
    """The alignment that a fit has come to, and what remains."""
    remaining = fit.remaining(dark, bright)
    grey = (dark + bright).mean(-1) / 2
    contrast = grey.std((1, 2)) + FAINT
    difference = np.sqrt(_blocks(remaining**2).mean((2, 4)).max((1, 2, 3))) / contrast
    slope = np.maximum(np.abs(np.gradient(grey, axis=1)), np.abs(np.gradient(grey, axis=2)))
    detail = (_blocks(slope).max((2, 4)) > EDGE).sum((1, 2)).astype(np.float32)
    return Alignment(fit.left, fit.width, fit.top, fit.height, fit.gain, fit.level, difference, detail, swapped)


def _comparable(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    grey = (_colour(a) < GREY) | (_colour(b) < GREY)
    for images in (a, b):
        images[grey] = (images[grey] @ LUMA)[..., None]
    return a, b


def _colour(images: Floats) -> Floats:
    """How far the channels of an image are apart, in levels, except for a hundredth of the pixels."""
    apart = images.max(-1) - images.min(-1)
    colour: Floats = np.percentile(apart, 99, axis=(1, 2))
    return colour


def _blurred(images: Floats, blur: float) -> Floats:
    side = images.shape[1]
    distance = np.subtract.outer(np.arange(side), np.arange(side))
    kernel = np.exp(-0.5 * (distance / blur) ** 2)
    kernel = (kernel / kernel.sum(1, keepdims=True)).astype(np.float32)
    return _separable(kernel, images, kernel)


def _separable(rows: Floats, images: Floats, columns: Floats) -> Floats:
    """Each image multiplied by a matrix along its rows, and by one along its columns."""
    pairs, side, _, channels = images.shape
    tall = np.matmul(rows, images.reshape(pairs, side, side * channels)).reshape(images.shape)
    wide = columns[:, None] if columns.ndim == 3 else columns
    product: Floats = np.matmul(wide, tall)
    return product


def _blocks(values: Floats) -> Floats:
    pairs, side, _, *rest = values.shape
    return values.reshape(pairs, BLOCKS, side // BLOCKS, BLOCKS, side // BLOCKS, *rest)


class _Fit:
    """The parameters of an alignment while they are improved."""

    def __init__(self, pairs: int) -> None:
        self.left, self.top, self.level = (np.zeros(pairs, np.float32) for _ in range(3))
        self.width, self.height, self.gain = (np.ones(pairs, np.float32) for _ in range(3))

    def chosen(self, pairs: NDArray[Any]) -> _Fit:
        """The fit of some of the pairs."""
        fit = _Fit(0)
        for name, values in vars(self).items():
            setattr(fit, name, values[pairs])
        return fit

    def replace(self, pairs: NDArray[np.bool_], other: _Fit) -> None:
        """Take over the parameters of some pairs from another fit."""
        for name, values in vars(self).items():
            values[pairs] = vars(other)[name][pairs]

    def correlation(self, dark: Floats, bright: Floats) -> Floats:
        """How far the images agree in what both show, from -1 to 1."""
        warped, seen = self._warped(dark)
        count = seen.sum((1, 2, 3), keepdims=True)
        one, other = (
            (images - (images * seen).sum((1, 2, 3), keepdims=True) / count) * seen for images in (warped, bright)
        )
        product = (one * other).sum((1, 2, 3))
        correlation: Floats = product / np.sqrt((one**2).sum((1, 2, 3)) * (other**2).sum((1, 2, 3)) + 1)
        return correlation

    def improve(self, dark: Floats, bright: Floats) -> None:
        """One step of Gauss and Newton."""
        pairs, side, _, channels = dark.shape
        values = side * side * channels
        at = _centres(side)
        warped, seen = self._warped(dark)
        across = np.gradient(warped, 1 / side, axis=2) / self.width[:, None, None, None]
        down = np.gradient(warped, 1 / side, axis=1) / self.height[:, None, None, None]
        predicted = self.gain[:, None, None, None] * warped + self.level[:, None, None, None]
        clipped = ((bright >= WHITE) & (predicted >= WHITE)) | ((bright <= BLACK) & (predicted <= BLACK))
        x, y = at[None, None, :, None] - 0.5, at[None, :, None, None] - 0.5
        # Scaled, so that all unknowns are of about the same size.
        terms = [warped / 100, np.ones_like(warped), across / 10, across * x / 10, down / 10, down * y / 10]
        columns = np.stack(terms, 1).reshape(pairs, len(terms), values)
        weighted = columns * (seen & ~clipped).reshape(pairs, 1, values)
        stiffness = STIFFNESS * (values / 3)
        matrix = weighted @ columns.transpose(0, 2, 1) + np.diag(stiffness)
        wanted = weighted @ bright.reshape(pairs, values, 1)
        wanted[:, 0, 0] += 100 * stiffness[0]
        found = np.linalg.solve(matrix, wanted)[..., 0]
        self.gain, self.level = np.clip(found[:, 0] / 100, 0.4, 2.5), found[:, 1]
        moves = np.clip(found[:, 2:] / 10 / self.gain[:, None], -0.05, 0.05)
        self.width, self.height = (
            np.clip(size + moves[:, k], *SIZES).astype(np.float32) for size, k in ((self.width, 1), (self.height, 3))
        )
        self.left, self.top = (
            np.clip(start + moves[:, k] - moves[:, k + 1] / 2, -FARTHEST, FARTHEST).astype(np.float32)
            for start, k in ((self.left, 0), (self.top, 2))
        )

    def remaining(self, dark: Floats, bright: Floats) -> Floats:
        """What differs after the alignment, in levels of the brighter image; zero where only one image has pixels."""
        warped, seen = self._warped(dark)
        predicted = self.gain[:, None, None, None] * warped + self.level[:, None, None, None]
        return (bright - np.clip(predicted, 0, 255)) * seen

    def _warped(self, dark: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """The darker images as the brighter ones show them, and where they have pixels, (pairs, side, side, 3)."""
        columns, across = _interpolation(self.left, self.width, dark.shape[1])
        rows, down = _interpolation(self.top, self.height, dark.shape[1])
        seen = (down[:, :, None] & across[:, None, :])[..., None]
        return _separable(rows, dark, columns), np.broadcast_to(seen, dark.shape)


def _interpolation(start: Floats, size: Floats, side: int) -> tuple[Floats, NDArray[np.bool_]]:
    """A matrix a pair that interpolates linearly, and which of the positions lie in the image."""
    at = (start[:, None] + size[:, None] * _centres(side)) * side - 0.5
    inside = (at >= -0.2) & (at <= side - 0.8)
    near = np.clip(at, 0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32)
    return np.maximum(0, 1 - np.abs(near)), inside


def _centres(side: int) -> Floats:
    """The centres of pixels, as shares of the side."""
    return ((np.arange(side) + 0.5) / side).astype(np.float32)
