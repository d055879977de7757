"""Find rows that are too long for the trainer, tokenizing only those whose size in bytes leaves it open."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from vd100k.images.resizing import SizeRule

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Qwen's chat format in the pieces that ms-swift tokenizes: up to the answer, and the answer with all that follows it.
# The tokens of the image are counted separately. Source: swift/template/base.py (_simplify_context_list).
SYSTEM = "<|im_start|>system\n{system}<|im_end|>\n"
PROMPT = "<|im_start|>user\n<|vision_start|><|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n"
ANSWER = "{answer}<|im_end|>\n"
NO_THOUGHTS = "<think>\n\n</think>\n\n"  # before the answers of a model that is trained not to think


class TokenLengths:
    """Compares rows with a limit of ``max_length`` tokens.

    A byte-level tokenizer produces at most one token per byte, so most rows pass by their size. The others are
    tokenized with ``tokenizer.json`` from the model's folder or the hub's cache. If neither has the file, these
    rows pass too, and ``uncounted`` is their number.
    """

    def __init__(
        self, model: str | None, system: str | None, size_rule: SizeRule, max_length: int, thinks: bool | None = None
    ) -> None:
        self._size_rule = size_rule
        self._max_length = max_length
        self._system = SYSTEM.format(system=system) if system else ""
        self._answer = ANSWER if thinks is not False else NO_THOUGHTS + ANSWER
        self._frame = _bytes(self._system) + len(PROMPT) + len(self._answer)  # bytes: an upper bound of the tokens
        self.model = model
        self.uncounted = 0

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer | None:
        return _tokenizer(self.model)

    def excess(self, question: str, answer: str, size: tuple[int, int] | None) -> int | None:
        """The number of tokens if it is above ``max_length``, else None; without a ``size``, the largest is assumed."""
        visual = self._size_rule.most_tokens if size is None else self._size_rule.tokens(*size)
        if _bytes(question) + _bytes(answer) + visual + self._frame <= self._max_length:
            return None
        if self._tokenizer is None:
            self.uncounted += 1
            return None
        pieces = self._system + PROMPT.format(question=question), self._answer.format(answer=answer)
        tokens = visual + sum(len(self._tokenizer.encode(piece, add_special_tokens=False).ids) for piece in pieces)
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
