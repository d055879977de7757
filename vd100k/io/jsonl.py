"""Rows of JSONL and CSV files as people have them: a bad line is told, with its number, and the rest goes on."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from vd100k.errors import DataError

Row = dict[str, Any]
SUFFIXES = {".jsonl", ".csv"}  # of the files that are read here
RAW = 2000  # characters kept of a line that cannot be read


class Fault(NamedTuple):
    """A line that holds no row: the reason in a word, in a sentence, and what stands there."""

    reason: str
    detail: str
    raw: str


Line = tuple[int, Row | Fault]  # numbered from 1


def read(path: Path) -> Iterator[Line]:
    """The lines of a .jsonl or .csv file with the rows in them; empty lines are passed over."""
    try:
        yield from csv_rows(path) if path.suffix.lower() == ".csv" else json_lines(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from error


def json_lines(path: Path) -> Iterator[Line]:
    """One JSON object a line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            row = parse(number, line)
            if row is not None:
                yield number, row


def parse(number: int, line: bytes) -> Row | Fault | None:
    """What a line of JSONL holds; None if it is empty. The first may begin with a byte order mark."""
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        row: Row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Fault("bad_line", f"not JSON: {error}", line.decode(errors="replace")[:RAW]) if line.strip() else None
    if row.__class__ is dict:
        return row
    return Fault("bad_line", "not a JSON object", line.decode(errors="replace")[:RAW])


def csv_rows(path: Path) -> Iterator[Line]:
    """Comma-separated, the first line naming the columns; a row may span several lines."""
    # What is not UTF-8 becomes lone surrogates, which no text has.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file, strict=True)  # or a quote left open would swallow the rest as one answer
        if any(_is_foreign(name) for name in _header(rows, path)):
            raise DataError(f"{path}: its first line, which names the columns, is not text in UTF-8.")
        while True:
            number = rows.line_num + 1
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield number, Fault("bad_line", f"not CSV up to line {rows.line_num}: {error}", "")
                continue
            if row is None:
                return
            fault = _csv_fault(row)
            yield number, Fault("bad_line", fault, str(row)[:RAW]) if fault else row


def _header(rows: csv.DictReader[str], path: Path) -> list[str]:
    try:
        return list(rows.fieldnames or [])
    except csv.Error as error:
        raise DataError(f"{path}: its first line does not name columns: {error}.") from error


def _csv_fault(row: Row) -> str | None:
    if None in row:
        return "more values than columns"
    if None in row.values():
        return "fewer values than columns"
    return "not text in UTF-8" if any(map(_is_foreign, row.values())) else None


def _is_foreign(text: str) -> bool:
    """Whether bytes that are not UTF-8 were read in it."""
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)
