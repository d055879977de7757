"""Tables that people bring, JSONL or CSV: a bad line is reported with its number, and reading goes on."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from vd100k.errors import DataError
from vd100k.io import jsonl
from vd100k.io.jsonl import MAX_RAW, Entry, Fault, Row

SUFFIXES = {".jsonl", ".csv"}


def read(path: Path, needed: Sequence[Collection[str]] = (), remedy: str = "") -> Iterator[Entry]:
    """The numbered rows of a .jsonl or .csv file; empty lines are skipped.

    The header of a .csv file must name one column of each collection in ``needed``; ``remedy`` says what to do if it
    does not. The rows of a .jsonl file may differ, so whoever reads them checks each.

    Raises:
        DataError: the file cannot be read, or its header is unusable.
    """
    try:
        yield from _csv_rows(path, needed, remedy) if path.suffix.lower() == ".csv" else jsonl.read(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from error


def columns_found(names: Iterable[str]) -> str:
    """A part of a sentence about a table without a column that it needs."""
    return f"columns found: {', '.join(map(str, names)) or 'none'}"


def _csv_rows(path: Path, needed: Sequence[Collection[str]], remedy: str) -> Iterator[Entry]:
    """Comma-separated values; the first line names the columns, and a row may span several lines."""
    # Bytes that are not UTF-8 become lone surrogates, which no valid text contains.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file, strict=True)  # otherwise an open quote swallows the rest of the file
        header = _header(rows, path)
        if any(map(_has_undecoded_bytes, header)):
            raise DataError(f"{path}: the first line, which names the columns, is not UTF-8 text.")
        for names in needed if header else ():
            if not any(name in header for name in names):
                missing = f"no column {' or '.join(names)}; {columns_found(header)}"
                raise DataError(f"{path}, line 1: {missing}. {_separator(header) or remedy}".rstrip())
        while True:
            number = rows.reader.line_num + 1  # unlike rows.line_num, this also counts the lines of a bad row
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield number, Fault("bad_line", f"not CSV up to line {rows.reader.line_num}: {error}", "")
                continue
            if row is None:
                return
            fault = _fault(row)
            yield number, Fault("bad_line", fault, str(row)[:MAX_RAW]) if fault else row


def _header(rows: csv.DictReader[str], path: Path) -> list[str]:
    try:
        return list(rows.fieldnames or [])
    except csv.Error as error:
        raise DataError(f"{path}: the first line does not name columns: {error}.") from error


def _separator(header: list[str]) -> str:
    """What to do about a single column that seems to be several."""
    other = next((name for mark, name in ((";", "semicolons"), ("\t", "tabs")) if mark in header[0]), None)
    return f"It seems to be separated by {other}: save it with commas." if other and len(header) == 1 else ""


def _fault(row: Row) -> str | None:
    if None in row:
        return "more values than columns"
    if None in row.values():
        return "fewer values than columns"
    return "not UTF-8 text" if any(map(_has_undecoded_bytes, row.values())) else None


def _has_undecoded_bytes(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)
