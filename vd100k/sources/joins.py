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

FACTS = ("image_sha256", "image_mtime_ns", "image_etag")  # what a row records of its image


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
    """A hash of the image id and the question; ids and questions of other types belong to rows that are rejected."""
    texts = [str(value) if isinstance(value := row.get(name), str | int) else "" for name in ("id", "question")]
    return xxhash.xxh3_128_digest("\0".join(texts).encode())


def pairs(chosen: Callable[[], Iterable[Entry]], rejected: Path) -> Iterator[Entry]:
    """Each chosen row with the answer to the same question in ``rejected``, or a fault if it has no usable one."""
    with Lookup(rejected) as others:
        for number, row in chosen():
            if isinstance(row, Fault):
                yield number, row
                continue
            try:
                yield number, _pair(row, others.first(row), rejected)
            except RecursionError:
                yield number, Fault("incomplete", "an answer is nested too deeply", _raw(row))


def _pair(row: Row, other: Row | None, rejected: Path) -> Row | Fault:
    """A chosen row with the answer of ``other``, or the fault of the pair."""
    if other is None:
        return Fault("no_rejected", f"{rejected} has no answer to this question", _raw(row))
    if _differ(row.get("image_sha256"), other.get("image_sha256")):
        return Fault("other_image", f"{rejected} answers this question about another image", _raw(row))
    if other.get("answer") == row.get("answer"):
        return Fault("equal_answers", "both models gave the same answer", _raw(row))
    if not str(other.get("answer") or "").strip():
        return Fault("rejected_empty", f"the answer in {rejected} is empty", _raw(row))
    # If only the other row records its image, the image is compared with that.
    facts = {key: other[key] for key in FACTS if key in other} if row.get(FACTS[0]) is None else {}
    boxes = {"rejected_boxes": other["boxes"]} if "boxes" in other else {}
    return row | facts | boxes | {"rejected": other["answer"]}


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
    try:
        return orjson.dumps(row).decode()
    except TypeError:  # nested too deeply
        return ""
