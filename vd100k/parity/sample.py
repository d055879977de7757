"""The rows that are compared: the extreme ones first, because those are where trainers and servers disagree."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from vd100k.images.encode import ImageError, header
from vd100k.images.transform import ORIENTATION, SIDEWAYS
from vd100k.io.jsonl import Row

MEASURED = 10_000  # rows whose images are opened; of a larger file, evenly spaced ones
UPRIGHT = 1


@dataclass(frozen=True)
class ImageFacts:
    """What the header of an image file says; ``width`` and ``height`` are those of the upright image."""

    width: int
    height: int
    orientation: int = UPRIGHT
    grey: bool = False

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def shape(self) -> float:
        """The longer side divided by the shorter one."""
        return max(self.width, self.height) / max(1, min(self.width, self.height))


@dataclass(frozen=True)
class RowFacts:
    """What decides whether a row is an extreme one; ``images`` are those that were opened."""

    images: list[ImageFacts]
    named: int  # images that the row names
    turns: int  # of the assistant
    text: int  # characters of all messages
    system: int  # characters of the system prompt
    boxes: int
    cap: int  # model.max_pixels


@dataclass(frozen=True)
class Chosen:
    """A row of the sample: its place among all rows, from 1, and why it was chosen."""

    number: int
    row: Row
    traits: list[str] = field(default_factory=list)


# For each trait, how much of it a row has; None if it is not such a row.
Measure = Callable[[RowFacts], float | None]


def _largest(row: RowFacts) -> float | None:
    return max((image.pixels for image in row.images), default=None)


def _smallest(row: RowFacts) -> float | None:
    return max((-image.pixels for image in row.images), default=None)


def _extreme(row: RowFacts) -> float | None:
    return max((image.shape for image in row.images), default=None)


def _turned(row: RowFacts) -> float | None:
    turned = [image for image in row.images if image.orientation != UPRIGHT]
    return max((image.shape for image in turned), default=None)


def _turned_square(row: RowFacts) -> float | None:
    turned = [image for image in row.images if image.orientation != UPRIGHT and image.width == image.height]
    return float(len(turned)) or None


def _grey(row: RowFacts) -> float | None:
    return float(any(image.grey for image in row.images)) or None


def _over(row: RowFacts) -> float | None:
    """The images just over the cap: how the size is rounded there differs most."""
    over = [image.pixels for image in row.images if image.pixels > row.cap]
    return -min(over) if over else None


MEASURES: dict[str, Measure] = {
    "largest image": _largest,
    "smallest image": _smallest,
    "most extreme shape": _extreme,
    "turned by EXIF": _turned,
    "turned by EXIF, square": _turned_square,
    "just over the cap": _over,
    "grey": _grey,
    "several images": lambda row: row.named if row.named > 1 else None,
    "several turns": lambda row: row.turns if row.turns > 1 else None,
    "with boxes": lambda row: row.boxes or None,
    "system prompt": lambda row: row.system or None,
    "longest text": lambda row: row.text,
    "no image": lambda row: None if row.named else 1,
}
DRAWN = "drawn"


def choose(rows: Iterable[Row], total: int, count: int, cap: int, seed: int) -> list[Chosen]:
    """At most ``count`` of about ``total`` rows, the extreme ones first; the same for the same rows and seed.

    Every trait contributes its most extreme row, then its second, and so on; one row in each round is drawn at random.
    """
    step = max(1, -(-total // MEASURED))
    best: dict[str, list[tuple[float, int, Row]]] = {name: [] for name in (*MEASURES, DRAWN)}
    for number, row in enumerate(rows, start=1):
        found = facts(row, cap, opens=number % step == 1 % step)
        amounts = {name: measure(found) for name, measure in MEASURES.items()}
        amounts[DRAWN] = xxhash.xxh3_64_intdigest(f"{seed}/{number}".encode())
        for name, amount in amounts.items():
            if amount is not None:  # of equal rows, the first; two rows never have the same number
                _keep(best[name], (amount, -number, row), count)
    ranked = {name: sorted(kept, key=lambda one: one[:2], reverse=True) for name, kept in best.items()}
    return list(_in_turn(ranked, count))


def _keep(heap: list[tuple[float, int, Row]], one: tuple[float, int, Row], count: int) -> None:
    if len(heap) < count:
        heapq.heappush(heap, one)
    elif one[:2] > heap[0][:2]:
        heapq.heapreplace(heap, one)


def _in_turn(ranked: dict[str, list[tuple[float, int, Row]]], count: int) -> Iterator[Chosen]:
    """The first of each trait, the second of each, …; a row that has several traits comes once."""
    chosen: dict[int, Chosen] = {}
    for round in range(count):
        for name, kept in ranked.items():
            if round >= len(kept) or (-kept[round][1] not in chosen and len(chosen) == count):
                continue
            _, number, row = kept[round]
            one = chosen.setdefault(-number, Chosen(-number, row))
            if round == 0 and name != DRAWN:
                one.traits.append(name)
    yield from chosen.values()


def facts(row: Row, cap: int, opens: bool = True) -> RowFacts:
    """The facts of a row of ms-swift; with ``opens``, its images are opened."""
    messages = [one for one in _list(row.get("messages")) if isinstance(one, dict)]
    named = named_images(row)
    lengths = [(one.get("role"), len(str(one.get("content")))) for one in messages]
    objects = row.get("objects")
    boxes = len(_list(objects.get("bbox"))) if isinstance(objects, dict) else 0
    images = [one for one in map(image_facts, named) if one] if opens else []
    turns = sum(role == "assistant" for role, _ in lengths)
    system = sum(length for role, length in lengths if role == "system")
    return RowFacts(images, len(named), turns, sum(length for _, length in lengths), system, boxes, cap)


def named_images(row: Row) -> list[Any]:
    """The images of a row of ms-swift, which may also name a single one without a list."""
    images = row.get("images")
    return [images] if isinstance(images, str) else _list(images)


def image_facts(path: object) -> ImageFacts | None:
    """What the header of an image file says; None if it cannot be read."""
    if not isinstance(path, str | Path):
        return None
    try:
        with header(path) as image:
            orientation = int(image.getexif().get(ORIENTATION, UPRIGHT))
            width, height = image.size[::-1] if orientation in SIDEWAYS else image.size
            return ImageFacts(width, height, orientation, image.mode not in ("RGB", "RGBA", "P", "CMYK"))
    except ImageError:
        return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
