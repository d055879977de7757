"""The size that a model of the Qwen-VL family resizes an image to, and so the number of its tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

Size = tuple[int, int]  # width and height in pixels


class HasSizes(Protocol):
    """A model as the configuration describes it."""

    @property
    def token_side(self) -> int: ...

    @property
    def min_pixels(self) -> int: ...

    @property
    def max_pixels(self) -> int: ...


@dataclass(frozen=True)
class SizeRule:
    """Both sides become multiples of ``token_side``, and their product is between the two bounds.

    Training, serving, the client and the count of tokens follow the same rule. Source: ``smart_resize`` of
    transformers' Qwen2-VL image processor (``models/qwen2_vl/image_processing_qwen2_vl.py``), which vLLM calls;
    ms-swift calls the function of the same name in ``qwen_vl_utils/vision_process.py``.
    """

    token_side: int
    min_pixels: int
    max_pixels: int

    @classmethod
    def of(cls, model: HasSizes) -> SizeRule:
        """The rule of a configured model."""
        return cls(model.token_side, model.min_pixels, model.max_pixels)

    @property
    def most_tokens(self) -> int:
        """The tokens of the largest image."""
        return max(1, self.max_pixels // self.token_side**2)

    def tokens(self, width: int, height: int) -> int:
        """The number of visual tokens of an image; each covers ``token_side`` x ``token_side`` pixels."""
        columns, rows = self.resized(width, height)
        return columns * rows // self.token_side**2

    def resized(self, width: int, height: int) -> Size:
        """The width and height in pixels that the model sees."""
        side = self.token_side
        columns, rows = round(width / side), round(height / side)  # a half is rounded to the even number
        if columns * rows * side * side > self.max_pixels:
            shrink = math.sqrt(width * height / self.max_pixels)
            columns, rows = (max(1, math.floor(length / shrink / side)) for length in (width, height))
        elif columns * rows * side * side < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            columns, rows = (math.ceil(length * grow / side) for length in (width, height))
        return columns * side, rows * side

    def sent(self, width: int, height: int) -> Size:
        """The size in which a client sends an image, so that the server resizes it as it would the original.

        An image over the cap is sent as the model would reduce it. Where the bounds are close together, a server
        would enlarge that again; then it is sent in its own size.
        """
        reduced = self.resized(width, height)
        if width * height <= self.max_pixels or self.resized(*reduced) != reduced:
            return width, height
        return reduced

    def is_too_narrow(self, width: int, height: int) -> bool:
        """Whether reducing an image leaves less than one token of its shorter side.

        transformers then keeps one token; ``qwen_vl_utils``, which ms-swift trains with, fails.
        """
        side = self.token_side
        if round(width / side) * round(height / side) * side * side <= self.max_pixels:
            return min(width, height) < side
        return math.floor(min(width, height) / math.sqrt(width * height / self.max_pixels) / side) < 1
