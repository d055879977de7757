"""JSONL files that are only added to, line by line: what is in them after a crash, a full disk, a power cut."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from vd100k.errors import DataError

BLOCK = 1 << 16


class Journal:
    """A file to append rows to, each in one write.

    A line in the file outlives this process, however it ends; after ``sync`` it outlives the
    machine's power.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.written, self._synced = path, 0, 0
        self._writing = threading.Lock()
        self._file = path.open("ab", buffering=0)
        self._end = self._file.seek(0, os.SEEK_END)

    def append(self, row: dict[str, Any]) -> None:
        """Write a row.

        Raises:
            DataError: it did not fit; nothing of it is left in the file.
        """
        line = dump(row)
        with self._writing:
            try:
                if self._file.write(line) != len(line):  # a disk that is nearly full takes a part
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                self._file.truncate(self._end)
                raise DataError(
                    f"{self.path}: could not be written: {error.strerror}. What was answered before is kept: "
                    "make room and run the same command again."
                ) from error
            self._end += len(line)
            self.written += 1

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        written = self.written
        if written > self._synced:
            os.fsync(self._file.fileno())
            self._synced = written

    def close(self) -> None:
        self._file.close()


def dump(row: dict[str, Any]) -> bytes:
    """A row as a line; of text that is no Unicode (models write half of a pair), the rest is kept."""
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return json.dumps(row, ensure_ascii=False).encode(errors="replace") + b"\n"


def lines(path: Path) -> Iterator[tuple[bytes, Any]]:
    """Each line that is not empty, with what it holds (None if that is no JSON); nothing if there is no file."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                yield line, orjson.loads(line)
            except orjson.JSONDecodeError:
                if line.strip():
                    yield line, None


def cut(path: Path) -> None:
    """Cut off a last line that a crash left unfinished."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        keep, start = 0, end
        # Backwards in blocks to the last newline; what follows it is the torn line.
        while start > 0 and keep == 0:
            stop, start = start, max(0, start - BLOCK)
            file.seek(start)
            newline = file.read(stop - start).rfind(b"\n")
            keep = start + newline + 1 if newline >= 0 else 0
        if keep < end:
            file.truncate(keep)


def replace(path: Path, content: Iterable[bytes]) -> int:
    """Put these lines in the file's place, all or none; how many."""
    scratch, count = path.with_name(f"{path.name}.tmp"), 0
    with scratch.open("wb") as file:
        for line in content:
            file.write(line)
            count += 1
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    return count


def append_to(path: Path, content: Iterable[bytes]) -> None:
    """Add lines to a file that nobody else writes."""
    with path.open("ab") as file:
        file.writelines(content)
        file.flush()
        os.fsync(file.fileno())
