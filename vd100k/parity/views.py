"""One row as the trainer and as the server see it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from vd100k.io.jsonl import Row
from vd100k.parity.pixels import Grid, Pixels
from vd100k.parity.sample import ImageFacts

IGNORED = -100  # the label of a token that is not trained
END = 8  # tokens shown of the end of an answer
REPEATED = re.compile(r"(<\|?[\w-]+\|?>)\1+")  # an image is one token for each of its parts


@dataclass(frozen=True)
class Trained:
    """What ms-swift trains on: token ids, their labels, and the grids and pixels of the images.

    ``error`` is why ms-swift refuses the row; then there is nothing else. ``images`` is empty if they cannot be shown.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    images: list[Pixels] = field(default_factory=list)
    error: str = ""

    def answers(self) -> list[tuple[int, int]]:
        """Where the trained parts begin and end."""
        marks = [IGNORED, *self.labels, IGNORED]
        edges = [k for k, (before, after) in enumerate(pairwise(marks)) if (before == IGNORED) != (after == IGNORED)]
        return list(zip(edges[::2], edges[1::2], strict=True))


@dataclass(frozen=True)
class Served:
    """What the server encodes: the token ids of each prompt, those of the whole chat, and the images.

    ``whole`` is None if it is not known. ``error`` is why the server refuses the request; then there is nothing else.
    """

    prompts: list[list[int]] = field(default_factory=list)
    whole: list[int] | None = None
    grids: list[Grid] = field(default_factory=list)
    images: list[Pixels] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True)
class Case:
    """A row with both views of it.

    ``text`` decodes token ids. ``stops`` are the tokens at which the server ends an answer. ``files`` are the facts of
    the row's image files; ``patch`` is the side of a patch in pixels and ``token`` that of an image token, whose id is
    ``pad``.
    """

    row: Row
    trained: Trained
    served: Served
    text: Callable[[list[int]], str]
    stops: list[int]
    files: list[ImageFacts | None]
    patch: int
    token: int
    pad: int | None = None

    @functools.cached_property
    def texts(self) -> tuple[str, str]:
        """The trained and the served tokens as text, each run of image tokens written as one."""
        whole, answers = self.served.whole, self.trained.answers()
        until = answers[-1][0] if answers and whole is None else len(self.trained.ids)
        ids = self.trained.ids[:until], self.served.prompts[-1] if whole is None else whole
        trained, served = (REPEATED.sub(r"\1", self.text(one)) for one in ids)
        return trained, served

    @property
    def end(self) -> str:
        """The last trained tokens as text."""
        begin, end = self.trained.answers()[-1]
        return self.text(self.trained.ids[begin:end][-END:])

    @property
    def is_text_alike(self) -> bool:
        """Whether both sides have the same tokens but for the number of image tokens, which follows from the grids."""
        whole = self.served.whole
        if whole is not None and self.texts_of(self.trained.ids) != self.texts_of(whole):
            return False
        return bool(self.begins) and self.begins == self.asked

    @property
    def begins(self) -> list[list[int]]:
        """The trained tokens before each trained answer, without image tokens."""
        return [self.texts_of(self.trained.ids[:begin]) for begin, _ in self.trained.answers()]

    @property
    def asked(self) -> list[list[int]]:
        """The same of the server: its prompts for the answers that are trained, which may be the last ones alone."""
        prompts = self.served.prompts
        return [self.texts_of(prompt) for prompt in prompts[max(0, len(prompts) - len(self.begins)) :]]

    def texts_of(self, ids: list[int]) -> list[int]:
        """The tokens that are not image tokens."""
        return [token for token in ids if token != self.pad]
