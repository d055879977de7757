"""Join two answer sets: into preference pairs, or to sort answers in the order of their questions.

One file is streamed while the rows of the other are looked up on disk, so memory use is constant.
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
    """Finds the rows of a JSONL file by image id and question."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        # An empty name means a temporary file, which SQLite deletes when the connection closes.
        self._index = sqlite3.connect("", isolation_level=None)
        self._index.execute(
            "CREATE TABLE rows_by_key (key BLOB, number INTEGER, offset INTEGER, taken INTEGER DEFAULT 0)"
        )
        self._index.execute("BEGIN")
        self._index.executemany("INSERT INTO rows_by_key (key, number, offset) VALUES (?, ?, ?)", self._keys(path))
        self._index.execute("CREATE INDEX keys ON rows_by_key (key)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._index.close()
        self._file.close()

    def first(self, row: Row) -> Row | None:
        """The first row with the same image id and question, or None."""
        query = "SELECT offset FROM rows_by_key WHERE key = ? ORDER BY number LIMIT 1"
        found = self._index.execute(query, (_key(row),)).fetchone()
        return None if found is None else self._read_at(found[0])

    def take(self, row: Row) -> Iterator[tuple[int, Row]]:
        """The numbered rows with the same image id and question that have not been taken yet; takes them."""
        query = "UPDATE rows_by_key SET taken = 1 WHERE key = ? AND taken = 0 RETURNING number, offset"
        for number, offset in sorted(self._index.execute(query, (_key(row),)).fetchall()):
            yield number, self._read_at(offset)

    def rest(self) -> Iterator[tuple[int, Row]]:
        """The numbered rows that have not been taken, in their order."""
        for number, offset in self._index.execute(
            "SELECT number, offset FROM rows_by_key WHERE taken = 0 ORDER BY number"
        ):
            yield number, self._read_at(offset)

    @staticmethod
    def _keys(path: Path) -> Iterator[tuple[bytes, int, int]]:
        for number, offset, _, row in jsonl.scan(path):
            if isinstance(row, dict):
                yield _key(row), number, offset

    def _read_at(self, offset: int) -> Row:
        self._file.seek(offset)
        row = jsonl.parse(1, self._file.readline())
        assert isinstance(row, dict)
        return row


def _key(row: Row) -> bytes:
    return xxhash.xxh3_128_digest(f"{row.get('id')}\0{row.get('question')}".encode())


def pairs(chosen: Callable[[], Iterable[Entry]], rejected: Path) -> Iterator[Entry]:
    """Each chosen row with the answer to the same question in ``rejected``, or a fault if it has no usable one."""
    with Lookup(rejected) as others:
        for number, row in chosen():
            if isinstance(row, Fault):
                yield number, row
                continue
            other = others.first(row)
            if other is None:
                yield number, Fault("no_rejected", f"{rejected} has no answer to this question", _raw(row))
            elif _differ(row.get("image_sha256"), other.get("image_sha256")):
                yield number, Fault("other_image", f"{rejected} answers this question about another image", _raw(row))
            elif other.get("answer") == row.get("answer"):
                yield number, Fault("equal_answers", "both models gave the same answer", _raw(row))
            elif not str(other.get("answer") or "").strip():
                yield number, Fault("rejected_empty", f"the answer in {rejected} is empty", _raw(row))
            else:
                yield number, row | {"rejected": other["answer"]}


def _differ(one: object, other: object) -> bool:
    return one is not None and other is not None and one != other


def in_order(answers: Path, questions: Path) -> Iterator[Entry]:
    """The rows of ``answers`` in the order of their questions; those without a question come last, as faults."""
    yield from ((number, row) for number, row in jsonl.read(answers) if isinstance(row, Fault))
    with Lookup(answers) as found:
        for _, question in jsonl.read(questions):
            if not isinstance(question, Fault):
                yield from found.take(question)
        for number, row in found.rest():
            yield number, Fault("not_asked", f"{questions} does not contain this question", _raw(row))


def _raw(row: Row) -> str:
    return orjson.dumps(row).decode()
