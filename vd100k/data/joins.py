"""Answer sets brought together: preference pairs, and answers in the order of their questions.

The rows of one file are looked up on disk while those of the other stream by, so memory does not
grow with their number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
import xxhash

from vd100k.lines import Fault, Line, Row, json_lines

BATCH = 10_000


class Lookup:
    """Rows of a JSONL file by (image, question), the first where there are several."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        # Without a name it is a temporary file, gone with the connection.
        self._places = sqlite3.connect("", isolation_level=None)
        self._places.execute("CREATE TABLE places (key BLOB PRIMARY KEY, offset INTEGER, number INTEGER) WITHOUT ROWID")
        self._places.execute("BEGIN")
        self._places.executemany("INSERT OR IGNORE INTO places VALUES (?, ?, ?)", self._found())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._places.close()
        self._file.close()

    def take(self, row: Row) -> tuple[int, Row] | None:
        """The line about the same image and question; no later row gets it."""
        taken = "DELETE FROM places WHERE key = ? RETURNING number, offset"
        place = self._places.execute(taken, (_key(row),)).fetchone()
        return None if place is None else (place[0], self._at(place[1]))

    def rest(self) -> Iterator[tuple[int, Row]]:
        """The rows that nobody took, in order."""
        for offset, number in self._places.execute("SELECT offset, number FROM places ORDER BY offset"):
            yield number, self._at(offset)

    def _found(self) -> Iterator[tuple[bytes, int, int]]:
        offset = 0
        for number, line in enumerate(self._file, start=1):
            start, offset = offset, offset + len(line)
            try:
                row = orjson.loads(line.lstrip(b"\xef\xbb\xbf"))
            except orjson.JSONDecodeError:
                continue
            if isinstance(row, dict) and "id" in row:
                yield _key(row), start, number

    def _at(self, offset: int) -> Row:
        self._file.seek(offset)
        row: Row = orjson.loads(self._file.readline().lstrip(b"\xef\xbb\xbf"))
        return row


def _key(row: Row) -> bytes:
    return xxhash.xxh3_128_digest(f"{row.get('id')}\0{row.get('question')}".encode())


def paired(chosen: Path, rejected: Path) -> Iterator[Line]:
    """The rows of ``chosen`` with the other model's answers in ``rejected``."""
    return pairs(json_lines(chosen), rejected)


def pairs(chosen: Iterable[Line], rejected: Path) -> Iterator[Line]:
    """Each chosen row with the other model's answer to the same question in ``rejected``."""
    with Lookup(rejected) as others:
        for number, row in chosen:
            if isinstance(row, Fault):
                yield number, row
                continue
            found = others.take(row)
            if found is None:
                yield number, Fault("no_rejected", f"no answer to it in {rejected}", _raw(row))
                continue
            other = found[1]
            if other.get("answer") == row.get("answer"):
                yield number, Fault("equal_answers", "both models say the same", _raw(row))
            elif not str(other.get("answer") or "").strip():
                yield number, Fault("rejected_empty", f"an empty answer in {rejected}", _raw(row))
            else:
                yield number, row | {"rejected": other["answer"]}


def in_order(answers: Path, questions: Path) -> Iterator[Line]:
    """The rows of ``answers`` in the order that their questions were asked in."""
    yield from ((number, row) for number, row in json_lines(answers) if isinstance(row, Fault))
    with Lookup(answers) as found:
        for _, question in json_lines(questions):
            if not isinstance(question, Fault) and (line := found.take(question)):
                yield line
        for number, row in found.rest():
            yield number, Fault("not_asked", f"no such question in {questions}", _raw(row))


def _raw(row: Row) -> str:
    return orjson.dumps(row).decode()
