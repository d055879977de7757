"""The parts of a report page, as plain data. ``report.html.j2`` renders them and escapes all of their text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Table:
    """A table of text cells."""

    kind: ClassVar[str] = "table"
    title: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Bars:
    """Bars with counts: a histogram, or counts by name."""

    kind: ClassVar[str] = "bars"
    title: str
    counts: list[tuple[str, int]]

    @property
    def most(self) -> int:
        return max([count for _, count in self.counts], default=1) or 1


@dataclass(frozen=True)
class Text:
    """A labelled text of a card; ``tone`` is "right", "wrong" or empty."""

    label: str
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Card:
    """An image as a ``data:`` URL (None if it is missing) with texts about it."""

    name: str
    image: str | None
    texts: list[Text]


@dataclass(frozen=True)
class Gallery:
    """A titled grid of cards."""

    kind: ClassVar[str] = "gallery"
    title: str
    cards: list[Card]


@dataclass(frozen=True)
class Chart:
    """A titled chart; ``url`` is a ``data:`` URL."""

    kind: ClassVar[str] = "chart"
    title: str
    url: str


@dataclass(frozen=True)
class Section:
    """A stage: its status, its figures (``facts``) and its blocks; ``link`` is the address of its own report."""

    stage: str
    status: str
    error: str | None
    facts: list[tuple[str, str]]
    blocks: list[Table | Bars | Gallery | Chart] = field(default_factory=list)
    link: str | None = None
