"""Which of very many rows repeat an earlier one, found on disk: memory does not grow with their number."""

from __future__ import annotations

import tempfile
from array import array
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from vd100k.conversion.filters import normalize

NEW, EXACT, NEAR = 0, 1, 2
CHUNK = 1 << 15  # rows sorted at a time


class DuplicateFinder:
    """Rows' (image, question) as they come, 16 bytes each in a temporary file; then which repeat an earlier one.

    Two rows are taken for the same when 64 bits of a hash agree: one in ten million sets of a million rows.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed on leaving)
        self._marks = tempfile.TemporaryFile()  # noqa: SIM115
        self._kept = array("q")
        self._question = self._normal = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()
        self._marks.close()

    def add(self, image: str, question: str) -> None:
        """Note the next row."""
        if question != self._question:  # often it is the same for all
            self._question, self._normal = question, normalize(question)
        kept = self._kept
        kept.append(hash((image, self._normal)))
        kept.append(hash((image, question)))
        if len(kept) >= 2 * CHUNK:
            self._flush()

    def found(self, exact: bool, near: bool) -> IO[bytes] | None:
        """A file of one byte a row (NEW, EXACT or NEAR, as far as asked for), or None where all are new."""
        self._flush()
        rows = self._file.tell() // 16
        marks = self._marks
        marks.truncate(rows)
        any_found = False
        parts = rows // CHUNK + 1
        with tempfile.TemporaryDirectory() as folder:
            self._scatter(Path(folder), parts)
            for part in range(parts):
                path = Path(folder) / str(part)
                for row, kind in _repeated(path, exact, near) if path.exists() else ():
                    marks.seek(row)
                    marks.write(bytes([kind]))
                    any_found = True
        marks.seek(0)
        return marks if any_found else None

    def _flush(self) -> None:
        self._kept.tofile(self._file)
        self._kept = array("q")

    def _scatter(self, folder: Path, parts: int) -> None:
        """(near, exact, row) of each row into one of ``parts`` files, repeats into the same."""
        self._file.seek(0)
        start = 0
        while content := self._file.read(16 * CHUNK):
            keys = np.frombuffer(content, np.int64).reshape(-1, 2)
            rows = np.arange(start, start + len(keys), dtype=np.int64)
            start += len(keys)
            belongs = keys[:, 0] % parts
            order = np.argsort(belongs, kind="stable")
            table = np.column_stack([keys, rows])[order]
            ends = np.searchsorted(belongs[order], np.arange(1, parts + 1))
            for part, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                if end > begin:
                    with (folder / str(part)).open("ab") as file:
                        table[begin:end].tofile(file)


def _repeated(path: Path, exact: bool, near: bool) -> list[tuple[int, int]]:
    """(row, kind) of the rows in a part that repeat an earlier one."""
    table = np.fromfile(path, np.int64).reshape(-1, 3)
    table = table[np.argsort(table[:, 0], kind="stable")]  # equal keys together, in the order of rows
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
