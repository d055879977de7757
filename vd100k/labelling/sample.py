"""Which rows people are asked about: a random sample that is the same whenever it is drawn."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import xxhash

from vd100k.io import jsonl
from vd100k.io.jsonl import Row

STRATA = 5  # of the same width between the scores 0 and 1


@dataclass(frozen=True)
class Drawn:
    """A row of the sample.

    ``stratum`` names the scores among which it was drawn; None if it was among all rows. ``earlier`` has the rows of
    the turns before it, if it is a turn of a conversation.
    """

    row: Row
    stratum: str | None = None
    earlier: tuple[Row, ...] = ()


@dataclass
class Rows:
    """The usable rows of a file, one by one; ``total`` counts them, and ``unusable`` the other lines."""

    path: Path
    total: int = field(default=0, init=False)
    unusable: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Row]:
        self.total = self.unusable = 0
        for _, row in jsonl.read(self.path):
            if isinstance(row, dict) and _is_usable(row):
                self.total += 1
                yield row
            else:
                self.unusable += 1


def uniform(rows: Iterable[Row], count: int, seed: int) -> list[Drawn]:
    """``count`` rows, each with the same probability, in random order.

    The order is that of a hash of seed, id and question. So the first rows of a larger sample are those of a smaller
    one, any number of first rows is a random sample too, and rows that are added later change little.
    """
    return [Drawn(row) for row in heapq.nsmallest(count, rows, key=lambda row: _draw(row, seed))]


def by_score(rows: Iterable[Row], count: int, seed: int, score: Callable[[Row], float | None]) -> list[Drawn]:
    """About as many rows of each stratum of scores, in turns; rows without a score are left out.

    Such a sample shows more of the rare scores. The share of wrong answers in it is not that of all rows.
    """
    strata: dict[int, list[tuple[int, int, Row]]] = defaultdict(list)
    for number, row in enumerate(rows):
        if (found := score(row)) is not None:
            stratum = strata[min(int(found * STRATA), STRATA - 1)]
            entry = (-_draw(row, seed), number, row)  # a heap whose first entry is the last one to be shown
            heapq.heappush(stratum, entry) if len(stratum) < count else heapq.heappushpop(stratum, entry)
    turns = [
        [Drawn(row, _stratum(index)) for _, _, row in sorted(entries, reverse=True)]
        for index, entries in sorted(strata.items())
    ]
    mixed = (drawn for turn in itertools.zip_longest(*turns) for drawn in turn if drawn)
    return list(itertools.islice(mixed, count))


def with_earlier_turns(sample: list[Drawn], rows: Iterable[Row]) -> list[Drawn]:
    """The sample with the earlier turns of its rows; without conversations, ``rows`` are not read."""
    wanted = {drawn.row["id"] for drawn in sample if _turn(drawn.row) > 1}
    turns: dict[str, list[Row]] = defaultdict(list)
    for row in rows if wanted else ():
        if row["id"] in wanted:
            turns[row["id"]].append(row)
    return [
        dataclasses.replace(drawn, earlier=tuple(sorted((one for one in before if _turn(one) < turn), key=_turn)))
        for drawn in sample
        for turn, before in [(_turn(drawn.row), turns[drawn.row["id"]])]
    ]


def _turn(row: Row) -> int:
    """The number of a row's turn in its conversation; 1 for a question alone."""
    turn = row.get("turn", 1)
    return turn if isinstance(turn, int) else 1


def _draw(row: Row, seed: int) -> int:
    text = f"{row['id']}\0{row['question']}"
    return xxhash.xxh3_64_intdigest(text.encode(errors="surrogatepass"), seed=seed % 2**64)


def _stratum(index: int) -> str:
    return f"{index / STRATA:g} to {(index + 1) / STRATA:g}"


def _is_usable(row: Row) -> bool:
    return isinstance(row.get("id"), str) and isinstance(row.get("question"), str) and row.get("answer") is not None
