"""Find rows that are too long for the trainer, tokenizing only those whose size in bytes leaves it open."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING

from vd100k.images.transform import FACTOR

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Qwen's chat format as ms-swift writes it; the tokens of the image are counted separately.
CHAT = (
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n<|vision_start|><|vision_end|>{question}<|im_end|>\n"
    "<|im_start|>assistant\n{answer}<|im_end|>\n"
)


def visual_tokens(width: int, height: int, min_pixels: int, max_pixels: int, side: int = FACTOR) -> int:
    """The number of tokens of an image: Qwen-VL resizes it to multiples of ``side`` pixels within the bounds.

    Source: ``smart_resize`` of transformers' Qwen2-VL image processor.
    """
    rows, columns = max(1, round(height / side)), max(1, round(width / side))
    pixels = rows * columns * side * side
    if pixels > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        rows, columns = (max(1, math.floor(length / shrink / side)) for length in (height, width))
    elif pixels < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        rows, columns = (math.ceil(length * grow / side) for length in (height, width))
    return rows * columns


class TokenLengths:
    """Compares rows with a limit of ``max_length`` tokens.

    A byte-level tokenizer produces at most one token per byte, so most rows pass by their size. The others are
    tokenized with ``tokenizer.json`` from the model's folder or the hub's cache. If neither has the file, these
    rows pass too, and ``uncounted`` is their number.
    """

    def __init__(
        self,
        model: str | None,
        system: str,
        min_pixels: int,
        max_pixels: int,
        max_length: int,
        side: int = FACTOR,
    ) -> None:
        self._bounds = (min_pixels, max_pixels, side)
        self._largest = max_pixels // side**2
        self._max_length = max_length
        self._system = system
        self._frame = len(CHAT.encode()) + _bytes(system)  # bytes: an upper bound of the tokens
        self.model = model
        self.uncounted = 0

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer | None:
        return _tokenizer(self.model)

    def excess(self, question: str, answer: str, size: tuple[int, int] | None) -> int | None:
        """The number of tokens if it is above ``max_length``, else None; without a ``size``, the largest is assumed."""
        pixels = self._largest if size is None else visual_tokens(*size, *self._bounds)
        if _bytes(question) + _bytes(answer) + pixels + self._frame <= self._max_length:
            return None
        if self._tokenizer is None:
            self.uncounted += 1
            return None
        chat = CHAT.format(system=self._system, question=question, answer=answer)
        tokens = len(self._tokenizer.encode(chat, add_special_tokens=False).ids) + pixels
        return tokens if tokens > self._max_length else None


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _tokenizer(model: str | None) -> Tokenizer | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from tokenizers import Tokenizer

    path: object = Path(model or "") / "tokenizer.json"
    if not model:
        return None
    if not Path(str(path)).exists():
        try:
            path = try_to_load_from_cache(model, "tokenizer.json")
        except HFValidationError:  # a path, not a hub name
            return None
    return Tokenizer.from_file(str(path)) if isinstance(path, str | Path) else None
