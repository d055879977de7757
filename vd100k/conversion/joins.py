"""Answer sets brought together: preference pairs, and answers in the order of their questions.

The rows of one file are looked up on disk while those of the other stream by, so memory does not
grow with their number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
import xxhash

from vd100k.io import jsonl
from vd100k.io.jsonl import Entry, Fault, Row


class Lookup:
    """Rows of a JSONL file by (image, question)."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        # Without a name it is a temporary file, gone with the connection.
        self._places = sqlite3.connect("", isolation_level=None)
        self._places.execute("CREATE TABLE places (key BLOB, number INTEGER, offset INTEGER, taken INTEGER DEFAULT 0)")
        self._places.execute("BEGIN")
        self._places.executemany("INSERT INTO places (key, number, offset) VALUES (?, ?, ?)", self._keys(path))
        self._places.execute("CREATE INDEX keys ON places (key)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._places.close()
        self._file.close()

    def first(self, row: Row) -> Row | None:
        """The first row about the same image and question."""
        where = "SELECT offset FROM places WHERE key = ? ORDER BY number LIMIT 1"
        place = self._places.execute(where, (_key(row),)).fetchone()
        return None if place is None else self._at(place[0])

    def take(self, row: Row) -> Iterator[tuple[int, Row]]:
        """The lines about the same image and question that were not taken yet."""
        taken = "UPDATE places SET taken = 1 WHERE key = ? AND taken = 0 RETURNING number, offset"
        for number, offset in sorted(self._places.execute(taken, (_key(row),)).fetchall()):
            yield number, self._at(offset)

    def rest(self) -> Iterator[tuple[int, Row]]:
        """The lines that nobody took, in order."""
        for number, offset in self._places.execute("SELECT number, offset FROM places WHERE taken = 0 ORDER BY number"):
            yield number, self._at(offset)

    @staticmethod
    def _keys(path: Path) -> Iterator[tuple[bytes, int, int]]:
        for number, offset, _, row in jsonl.scan(path):
            if isinstance(row, dict):
                yield _key(row), number, offset

    def _at(self, offset: int) -> Row:
        self._file.seek(offset)
        row = jsonl.parse(1, self._file.readline())
        assert isinstance(row, dict)
        return row


def _key(row: Row) -> bytes:
    return xxhash.xxh3_128_digest(f"{row.get('id')}\0{row.get('question')}".encode())


def pairs(chosen: Callable[[], Iterable[Entry]], rejected: Path) -> Iterator[Entry]:
    """Each chosen row with the other model's answer to the same question in ``rejected``."""
    with Lookup(rejected) as others:
        for number, row in chosen():
            if isinstance(row, Fault):
                yield number, row
                continue
            other = others.first(row)
            if other is None:
                yield number, Fault("no_rejected", f"no answer to it in {rejected}", _raw(row))
            elif _differ(row.get("image_sha256"), other.get("image_sha256")):
                yield number, Fault("other_image", f"in {rejected} it is about another image", _raw(row))
            elif other.get("answer") == row.get("answer"):
                yield number, Fault("equal_answers", "both models say the same", _raw(row))
            elif not str(other.get("answer") or "").strip():
                yield number, Fault("rejected_empty", f"an empty answer in {rejected}", _raw(row))
            else:
                yield number, row | {"rejected": other["answer"]}


def _differ(one: object, other: object) -> bool:
    return one is not None and other is not None and one != other


def in_order(answers: Path, questions: Path) -> Iterator[Entry]:
    """The rows of ``answers`` in the order that their questions were asked in."""
    yield from ((number, row) for number, row in jsonl.read(answers) if isinstance(row, Fault))
    with Lookup(answers) as found:
        for _, question in jsonl.read(questions):
            if not isinstance(question, Fault):
                yield from found.take(question)
        for number, row in found.rest():
            yield number, Fault("not_asked", f"no such question in {questions}", _raw(row))


def _raw(row: Row) -> str:
    return orjson.dumps(row).decode()
