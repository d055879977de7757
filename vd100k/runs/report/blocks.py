"""What a page is made of. Each is plain data; ``templates/report.html.j2`` draws it, and escapes all text in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Table:
    """Cells as text."""

    kind: ClassVar[str] = "table"
    title: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Bars:
    """How often each: a histogram, or counts by name."""

    kind: ClassVar[str] = "bars"
    title: str
    counts: list[tuple[str, int]]

    @property
    def most(self) -> int:
        return max([count for _, count in self.counts], default=1) or 1


@dataclass(frozen=True)
class Text:
    """A text of a card, under its label; ``tone`` is right, wrong or none."""

    label: str
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Card:
    """A picture, a ``data:`` URL (None where it is gone), and texts about it."""

    name: str
    picture: str | None
    texts: list[Text]


@dataclass(frozen=True)
class Gallery:
    kind: ClassVar[str] = "gallery"
    title: str
    cards: list[Card]


@dataclass(frozen=True)
class Figure:
    """A picture alone, a ``data:`` URL."""

    kind: ClassVar[str] = "figure"
    title: str
    picture: str


@dataclass(frozen=True)
class Section:
    """A stage: what it did, its single numbers, and blocks below; ``link`` is the page of its own, if it has one."""

    stage: str
    status: str
    error: str | None
    facts: list[tuple[str, str]]
    blocks: list[Table | Bars | Gallery | Figure] = field(default_factory=list)
    link: str | None = None
