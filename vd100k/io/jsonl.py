"""JSON Lines: the one reader and the one writer. A bad line is reported with its number, and reading goes on."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from vd100k.errors import DataError
from vd100k.io import atomic

Row = dict[str, Any]
MAX_RAW = 2000  # characters kept of a line that cannot be read
BLOCK = 1 << 20  # bytes


class Fault(NamedTuple):
    """A line that holds no row: the reason in one word, a sentence about it, and the beginning of the line."""

    reason: str
    detail: str
    raw: str


Entry = tuple[int, Row | Fault]  # the number of a line, from 1, and what it holds
Finish = Callable[[int, Row], Row]  # changes the row of a line with this number


def scan(
    path: Path, loads: Callable[[bytes], Any] = orjson.loads, step: int = 1, skip: int = 0
) -> Iterator[tuple[int, int, bytes, Row | Fault]]:
    """The number, the offset, the bytes and the content of every ``step``-th line, except for empty lines.

    The first ``skip`` lines are passed over without parsing them. ``loads`` parses a line; ``json.loads``
    also accepts NaN and Infinity, which JSON does not know.

    Raises:
        OSError: the file cannot be opened or read.
    """
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            content = parse(number, line, loads) if number > skip and number % step == 1 % step else None
            if content is not None:
                yield number, offset, line, content
            offset += len(line)


class Block(NamedTuple):
    """Whole lines of a file: where they begin, how many bytes they are, and the number of the first one."""

    offset: int
    size: int
    number: int


def blocks(path: Path) -> Iterator[Block]:
    """The lines of a file in blocks of about a mebibyte, so that several processes can parse them.

    Raises:
        OSError: the file cannot be opened or read.
    """
    offset, number = 0, 1
    with path.open("rb") as file:
        while content := file.read(BLOCK) + file.readline():
            yield Block(offset, len(content), number)
            offset += len(content)
            number += content.count(b"\n")


def read_block(path: Path, block: Block, finish: Finish | None = None) -> Iterator[Entry]:
    """The number and the content of every line of a block, except for empty lines; see ``parse_lines``."""
    with path.open("rb") as file:
        file.seek(block.offset)
        content = file.read(block.size)
    return parse_lines(content, block.number, finish)


def parse_lines(content: bytes, number: int = 1, finish: Finish | None = None) -> Iterator[Entry]:
    """The number and the content of every line, except for empty lines; ``number`` is that of the first.

    ``finish`` is applied to each row.
    """
    loads = orjson.loads
    for at, line in enumerate(io.BytesIO(content), number):
        try:
            row = loads(line)
        except (ValueError, RecursionError):
            row = None
        if row.__class__ is not dict:
            row = parse(at, line)  # which knows what may be wrong
        if finish is not None and row.__class__ is dict:
            row = finish(at, row)
        if row is not None:
            yield at, row


def read(path: Path, step: int = 1) -> Iterator[Entry]:
    """The number and the content of every ``step``-th line, except for empty lines."""
    return ((number, content) for number, _, _, content in scan(path, step=step))


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file that this program wrote; none if the file is missing.

    Raises:
        DataError: a line is not a JSON object; the message names it.
    """
    if not path.exists():
        return
    for number, content in read(path):
        if isinstance(content, Fault):
            raise DataError(f"{path}, line {number}: {content.detail}. Fix or remove this line; the rest is kept.")
        yield content


def parse(number: int, line: bytes, loads: Callable[[bytes], Any] = orjson.loads) -> Row | Fault | None:
    """The content of a line; None if the line is empty. The first line may begin with a byte order mark."""
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        row: Row = loads(line)
    except (ValueError, RecursionError) as error:
        return Fault("bad_line", f"not JSON: {error}", _raw(line)) if line.strip() else None
    return row if row.__class__ is dict else Fault("bad_line", "not a JSON object", _raw(line))


def dump(row: Row) -> bytes:
    """A row as one line. Lone surrogates, which models write but UTF-8 cannot hold, become question marks."""
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return json.dumps(row, ensure_ascii=False).encode(errors="replace") + b"\n"


def write(path: Path, rows: Iterable[Row]) -> None:
    """Replace a file as a whole."""
    atomic.replace(path, map(dump, rows))


def _raw(line: bytes) -> str:
    return line.decode(errors="replace")[:MAX_RAW]
