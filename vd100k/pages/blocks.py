"""The parts of a page, as plain data. The templates render them and escape all of their text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from vd100k.pages.html import duration, number
from vd100k.pages.pictures import Picture

HEIGHT = 100  # of a chart, in the units of its SVG
MOST_POINTS = 400  # of a curve; more cannot be seen


@dataclass(frozen=True)
class Table:
    """A table of text cells."""

    kind: ClassVar[str] = "table"
    title: str
    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Bars:
    """Counts by name: horizontal bars, or for ``ranges`` of numbers the columns of a histogram."""

    kind: ClassVar[str] = "bars"
    title: str
    counts: list[tuple[str, int]]
    ranges: bool = False

    @property
    def most(self) -> int:
        return max([count for _, count in self.counts], default=1) or 1

    @property
    def total(self) -> int:
        return sum(count for _, count in self.counts) or 1


@dataclass(frozen=True)
class Pairs:
    """Shares from 0 to 1 of several ``sides`` beside each other, such as before and after; one list for each name.

    ``intervals`` has (low, high) of each share, in the same order; None if it is not known.
    """

    sides: list[str]
    shares: list[tuple[str, list[float]]]
    intervals: list[list[list[float] | None]]


@dataclass(frozen=True)
class Measure:
    """A share from 0 to 1 of each side with its interval (None if it is not known), and what is said about it.

    ``note`` is a short text such as the number of images; ``tone`` is "right", "wrong" or empty.
    """

    name: str
    note: str
    bars: list[tuple[str, float, list[float] | None]]
    said: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Measures:
    """A table of shares as bars with their intervals."""

    kind: ClassVar[str] = "measures"
    title: str
    rows: list[Measure]


@dataclass(frozen=True)
class Curve:
    """A line through points (step, value); the axis of values begins at zero if no value is below it.

    ``unit`` is written after a value, except "$", which is written before it. ``timed``: a step is a time in seconds;
    of other curves, ``noun`` says what a step is.
    """

    kind: ClassVar[str] = "curve"
    title: str
    points: list[tuple[float, float]]
    unit: str = ""
    timed: bool = False
    noun: str = "step"

    @property
    def low(self) -> float:
        return min(0.0, *(value for _, value in self.points))

    @property
    def high(self) -> float:
        return max(value for _, value in self.points)

    def at(self, step: float) -> str:
        """A step in words."""
        return duration(step) if self.timed else f"{self.noun} {step:,.10g}"

    def told(self, value: float) -> str:
        """A value with its unit."""
        return f"${number(value)}" if self.unit == "$" else f"{number(value)}{self.unit}"

    @property
    def drawn(self) -> list[tuple[float, float, float, float]]:
        """At most about ``MOST_POINTS`` points: x and y from 0 to ``HEIGHT``, the step and the value."""
        stride = -(-len(self.points) // MOST_POINTS)
        kept = [*self.points[:-1:stride], self.points[-1]]
        first, width = kept[0][0], (kept[-1][0] - kept[0][0]) or 1
        scale = (self.high - self.low) or 1
        return [
            (HEIGHT * (step - first) / width, HEIGHT * (1 - (value - self.low) / scale), step, value)
            for step, value in kept
        ]


@dataclass(frozen=True)
class Text:
    """A labelled text of a card; ``tone`` is "right", "wrong" or empty."""

    label: str
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Card:
    """A picture, or those of a group, with texts about it; no picture if it is missing.

    ``group`` is what one filters by, and ``rank`` what "worst first" sorts by: the lowest is the worst.
    """

    name: str
    pictures: list[Picture]
    texts: list[Text]
    group: str = ""
    rank: float = 0.0

    @property
    def length(self) -> int:
        return max([len(text.text) for text in self.texts], default=0)


@dataclass(frozen=True)
class Gallery:
    """A titled grid of cards: some of ``total``, all of which are in the file ``rest``; ``shared`` is about all."""

    kind: ClassVar[str] = "gallery"
    title: str
    cards: list[Card]
    total: int | None = None
    rest: str = ""
    shared: Text | None = None

    @property
    def groups(self) -> dict[str, int]:
        """The number of cards in each group, in the order of the cards."""
        names = [card.group for card in self.cards]
        return {name: names.count(name) for name in dict.fromkeys(names) if name}

    @property
    def ranked(self) -> bool:
        return len({card.rank for card in self.cards}) > 1


Block = Table | Bars | Measures | Curve | Gallery


@dataclass(frozen=True)
class Section:
    """A stage: its status, its figures (``facts``) and its blocks.

    ``figure`` is its result in words, ``link`` the address of its own page.
    """

    stage: str
    status: str
    error: str | None
    facts: list[tuple[str, str]]
    blocks: list[Block] = field(default_factory=list)
    link: str | None = None
    figure: str | None = None
    duration: str = ""


@dataclass(frozen=True)
class Headline:
    """What a page says first: the result in words and as bars, facts about the run, and a few pictures of it."""

    title: str
    result: str
    facts: list[str]
    about: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[Card] = field(default_factory=list)
    compared: Pairs | None = None
