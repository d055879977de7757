"""JSONL files that are only appended to: what is in them after a crash, a full disk, a power failure."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

from vd100k.errors import DataError
from vd100k.io import atomic
from vd100k.io.jsonl import Row, dump

BLOCK = 1 << 16  # bytes


class AppendLog:
    """A file that rows are appended to, each with one write.

    A line in the file survives this process, however it ends; after ``sync`` it also survives a
    power failure. ``written`` counts the rows appended since the file was opened.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.written = path, 0
        self._synced = self._end = 0
        self._writing = threading.Lock()
        self._file: FileIO | None = None

    def open(self) -> None:
        """Open the file for appending, and create it if it is missing."""
        self._file = self.path.open("ab", buffering=0)
        self._end = self._file.seek(0, os.SEEK_END)

    def append(self, row: Row) -> None:
        """Write a row.

        Raises:
            DataError: the row did not fit; nothing of it is left in the file.
        """
        assert self._file
        line = dump(row)
        with self._writing:
            try:
                if self._file.write(line) != len(line):  # a nearly full disk accepts a part
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                self._file.truncate(self._end)
                raise self._error(error) from error
            self._end += len(line)
            self.written += 1

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Replace the content with ``lines``, which may be read from this file, and go on appending to it.

        Raises:
            DataError: they did not fit; the file is unchanged.
        """
        scratch = self.path.with_name(f"{self.path.name}.rewritten")
        with self._writing:
            try:
                atomic.replace(scratch, lines)
                # Opened before it gets the name: nothing may be appended to a file that has lost its name.
                file = scratch.open("ab", buffering=0)
                scratch.replace(self.path)
            except OSError as error:
                raise self._error(error) from error
            self._file, self._end = file, file.seek(0, os.SEEK_END)

    def sync(self) -> None:
        """Wait until everything written so far is on the disk."""
        written, file = self.written, self._file  # ``rewrite`` may replace the file meanwhile
        if file and written > self._synced:
            os.fsync(file.fileno())
            self._synced = written

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _error(self, error: OSError) -> DataError:
        return DataError(
            f"{self.path}: could not be written: {error.strerror}. All earlier answers are kept: "
            "make room and run the same command again."
        )


def cut_torn_line(path: Path) -> None:
    """Remove a last line that a crash left unfinished; a missing file is fine."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        keep, start = 0, end
        # Search backwards in blocks for the last newline; the torn line follows it.
        while start > 0 and keep == 0:
            stop, start = start, max(0, start - BLOCK)
            file.seek(start)
            newline = file.read(stop - start).rfind(b"\n")
            keep = start + newline + 1 if newline >= 0 else 0
        if keep < end:
            file.truncate(keep)


def append_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Append lines to a file that no other process writes."""
    with path.open("ab") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
