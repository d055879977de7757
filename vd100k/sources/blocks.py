"""Rows in blocks: a block of lines is parsed by whoever works on it, so that several processes can share a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from vd100k.io import jsonl
from vd100k.io.jsonl import Entry, Finish

ROWS = 1024  # in a block of rows


@dataclass(frozen=True)
class Lines:
    """Lines of a JSONL file; ``finish`` is applied to each row."""

    path: Path
    place: jsonl.Block
    finish: Finish | None = None

    def entries(self) -> Iterator[Entry]:
        """The numbered rows and faults."""
        return jsonl.read_block(self.path, self.place, self.finish)


@dataclass(frozen=True)
class Rows:
    """Rows that have been read from whatever is not lines of a file."""

    rows: list[Entry]

    def entries(self) -> Iterator[Entry]:
        """The numbered rows and faults."""
        return iter(self.rows)


Block = Lines | Rows


def of_file(path: Path, finish: Finish | None = None) -> Iterator[Block]:
    """The blocks of a JSONL file."""
    return (Lines(path, place, finish) for place in jsonl.blocks(path))


def of_entries(read: Callable[..., Iterable[Entry]], *args: object) -> Iterator[Block]:
    """The blocks of the rows that ``read`` returns for ``args``."""
    iterator = iter(read(*args))
    while block := list(islice(iterator, ROWS)):
        yield Rows(block)
