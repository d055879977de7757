"""Find rows that are too long for the trainer, tokenizing only those whose size in bytes leaves it open."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vd100k.images.resizing import SizeRule
from vd100k.io import hub

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Size = tuple[int, int]  # width and height of an image in pixels
Turn = tuple[str, str]  # a question and its answer

# Qwen's chat format in the pieces that ms-swift tokenizes: up to an answer, and the answer with all that follows it.
# The tokens of images are counted separately. Source: swift/template/base.py (_simplify_context_list).
SYSTEM = "<|im_start|>system\n{system}<|im_end|>\n"
PROMPT = "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
ANSWER = "{answer}<|im_end|>\n"
NO_THOUGHTS = "<think>\n\n</think>\n\n"  # before the answers of a model that is trained not to think
TAG = "<image>"  # stands in a question for an image, of which these tokens are left besides its own
IMAGE = "<|vision_start|><|vision_end|>"


class TokenLengths:
    """Compares rows with a limit of ``max_length`` tokens.

    A byte-level tokenizer produces at most one token per byte, so most rows pass by their size. The others are
    tokenized with ``tokenizer.json`` from the model's folder or the hub's cache. If neither has the file, these
    rows pass too, and ``uncounted`` is their number.
    """

    def __init__(
        self, model: str | None, system: str | None, size_rule: SizeRule, max_length: int, thinks: bool | None = None
    ) -> None:
        self._size_rule, self._most_visual = size_rule, size_rule.most_tokens
        self._max_length = max_length
        self._system = SYSTEM.format(system=system) if system else ""
        self._answer = ANSWER if thinks is not False else NO_THOUGHTS + ANSWER
        # In bytes, which are at least as many as the tokens.
        self._frame, self._turn = bytes_of(self._system), len(PROMPT) + len(self._answer)
        self.model = model
        self.uncounted = 0

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer | None:
        return _tokenizer(self.model)

    def excess(self, turns: Sequence[Turn], sizes: Sequence[Size | None]) -> int | None:
        """The number of tokens of a conversation about images of these sizes if it is above ``max_length``, else None.

        The questions have an ``<image>`` tag for each image. For one without a size, the largest is assumed.
        """
        if self.fits(sum(bytes_of(question) + bytes_of(answer) for question, answer in turns), len(turns), sizes):
            return None
        if self._tokenizer is None:
            self.uncounted += 1
            return None
        pieces, before = list[str](), self._system
        for question, answer in turns:
            pieces += before + PROMPT.format(question=question.replace(TAG, IMAGE)), self._answer.format(answer=answer)
            before = ""
        tokens = self._visual(sizes) + sum(
            len(self._tokenizer.encode(piece, add_special_tokens=False).ids) for piece in pieces
        )
        return tokens if tokens > self._max_length else None

    @property
    def room(self) -> int:
        return self._max_length - self._frame - len(IMAGE) - self._turn - self._most_visual - len(TAG)

    def fits(self, length: int, turns: int, sizes: Sequence[Size | None]) -> bool:
        """Whether so many turns, of ``length`` bytes together, are short enough whatever their tokens are."""
        frame = self._frame + len(IMAGE) * len(sizes) + self._turn * turns
        return length + frame + self._visual(sizes) <= self._max_length

    def _visual(self, sizes: Sequence[Size | None]) -> int:
        tokens = 0
        for size in sizes:
            tokens += self._most_visual if size is None else self._size_rule.tokens(*size)
        return tokens


def bytes_of(text: str) -> int:
    """The number of bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def _tokenizer(model: str | None) -> Tokenizer | None:
    from tokenizers import Tokenizer

    folder = hub.folder("hf", model) if model else None
    file = folder / "tokenizer.json" if folder else None
    return Tokenizer.from_file(str(file)) if file and file.is_file() else None
