"""Find repeated rows among very many, with constant memory: the keys of the rows are kept in temporary files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

NEW, EXACT, NEAR = 0, 1, 2
CHUNK = 1 << 15  # rows sorted at a time
KEY = 16  # bytes


class RepeatFinder:
    """Takes the key of every row, then says which rows repeat an earlier one.

    A key is two 64-bit hashes: rows with the same first one are near each other, and those with both are equal. Among
    a million different rows, the probability that any two have the same hash is about 3e-8. A key stays in a
    temporary file.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._kinds = tempfile.TemporaryFile()  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()
        self._kinds.close()

    def add(self, keys: bytes) -> None:
        """Add the keys of the next rows."""
        self._file.write(keys)

    def find(self, exact: bool, near: bool) -> IO[bytes] | None:
        """A file with one byte per row, NEW, EXACT or NEAR, or None if no row repeats another.

        ``exact`` and ``near`` select the kinds to look for; a row of the other kind counts as NEW.
        """
        rows = self._file.tell() // KEY
        kinds = self._kinds
        kinds.truncate(rows)
        any_found = False
        parts = rows // CHUNK + 1
        with tempfile.TemporaryDirectory() as folder:
            self._partition(Path(folder), parts)
            for part in range(parts):
                path = Path(folder) / str(part)
                for row, kind in _duplicates(path, exact, near) if path.exists() else ():
                    kinds.seek(row)
                    kinds.write(bytes([kind]))
                    any_found = True
        kinds.seek(0)
        return kinds if any_found else None

    def _partition(self, folder: Path, parts: int) -> None:
        """Distribute (near hash, exact hash, row number) over files, so that equal rows meet in the same file."""
        self._file.seek(0)
        start = 0
        while content := self._file.read(KEY * CHUNK):
            keys = np.frombuffer(content, np.int64).reshape(-1, 2)
            rows = np.arange(start, start + len(keys), dtype=np.int64)
            start += len(keys)
            part_of_row = keys[:, 0] % parts
            order = np.argsort(part_of_row, kind="stable")
            table = np.column_stack([keys, rows])[order]
            ends = np.searchsorted(part_of_row[order], np.arange(1, parts + 1))
            for part, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                if end > begin:
                    with (folder / str(part)).open("ab") as file:
                        table[begin:end].tofile(file)


def _duplicates(path: Path, exact: bool, near: bool) -> list[tuple[int, int]]:
    """(row number, kind) of each row in the file that repeats an earlier one."""
    table = np.fromfile(path, np.int64).reshape(-1, 3)
    table = table[np.argsort(table[:, 0], kind="stable")]  # groups equal keys and keeps the order of the rows
    same = np.flatnonzero(table[1:, 0] == table[:-1, 0]) + 1
    found, seen, group = [], set[int](), None
    for k in same.tolist():
        if group != table[k, 0]:
            group, seen = table[k, 0], {int(table[k - 1, 1])}
        kind = EXACT if int(table[k, 1]) in seen else NEAR
        seen.add(int(table[k, 1]))
        if exact if kind == EXACT else near:
            found.append((int(table[k, 2]), kind))
    return found
