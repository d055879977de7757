"""The ledger of a generation: append-only JSONL rows that survive any interruption and are never mixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeGuard

from filelock import FileLock, Timeout

from vd100k.console import say
from vd100k.errors import DataError
from vd100k.io import atomic, jsonl
from vd100k.io.append_log import AppendLog, append_lines, cut_torn_line
from vd100k.io.jsonl import Row
from vd100k.io.key_set import KeySet, OffsetIndex, row_key
from vd100k.io.redaction import redact
from vd100k.ledger import partial, provenance
from vd100k.ledger.known import Failure, Known, failure

DYING_S = 120.0  # a lost driver may hold its slice so long: NFS forgets the locks of a lost machine after 90


class LedgerBusy(DataError):
    """Another process holds the ledger."""

    def __init__(self, rows: Path) -> None:
        super().__init__(f"{rows}: another process is writing to it. Wait for it, or end it.")


class Ledger:
    """Rows at ``path``; whatever failed is beside them in ``<name>.failures.jsonl``.

    A row is identified by ``identify(row)``: by its image, or by a question about it. ``settings``
    are what decides the answers (model, prompt, sampling). Rows made with other settings are never
    mixed with these: ``if_changed`` says whether to ``refuse`` the run, or to ``set_aside`` the old
    files under another name, from where they return when their settings do. Rows of the same
    settings in ``<name>.preview.jsonl`` and ``<name>.shard-K-of-N.jsonl`` are joined; those of
    ``<name>.slice-K-of-N.jsonl``, which drivers leave when they are killed, are moved here. A second
    process is refused after ``wait_s``.

    ``done`` holds the keys found when the ledger was opened, joined rows included, ``failed`` the
    failures by key, and ``saved`` counts the rows appended since then that are safe on the disk.
    ``whole`` is what the ledger of the whole run knows, if this one is that of a slice.

    Raises (on entering):
        DataError: other settings, another process, or a file that cannot be written.
    """

    def __init__(
        self,
        path: Path,
        settings: Row,
        if_changed: str = "refuse",
        is_current: Callable[[Row], bool] = lambda row: True,
        stage_key: str = "stage",
        identify: Callable[[Row], int] = lambda row: row_key(row["id"]),
        whole: Known | None = None,
        wait_s: float = 0,
    ) -> None:
        self.path, self.whole = path, whole
        self.failures_path = provenance.beside(path, "failures.jsonl")
        self.corrupt_path = provenance.beside(path, "corrupt.jsonl")
        self.outdated_path = provenance.beside(path, "outdated.jsonl")
        self.done = KeySet()
        self.failed: dict[int, Failure] = {}
        self.saved = 0
        self._settings, self._if_changed, self._is_current = settings, if_changed, is_current
        self._stage_key, self._identify = stage_key, identify
        self._lock, self._wait_s = _lock(path), wait_s
        self._rows, self._failures = AppendLog(path), AppendLog(self.failures_path)
        self._failures_outdated = False
        self._joined = 0
        self._indexes: dict[Path, OffsetIndex] = {}

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=self._wait_s)
        except Timeout:
            raise LedgerBusy(self.path) from None
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written: {error.strerror}.") from error
        try:
            provenance.guard(self.path, self._settings, self._if_changed, self._stage_key)
            self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        try:
            self.sync()
            self._tidy_failures()
        finally:
            self._rows.close()
            self._failures.close()
            self._lock.release()

    def append(self, row: Row) -> None:
        """Write a finished row; ``sync`` then makes it safe.

        Raises:
            DataError: the disk is full.
        """
        self._rows.append(row)
        # The image can be answered, so a failure of the image as a whole no longer applies either.
        for key in (self._identify(row), row_key(row["id"])) if self.failed else ():
            if self.failed.pop(key, None):
                self._failures_outdated = True

    def fail(
        self, id: str, reason: str, detail: str, attempts: int, question: str | None = None, retryable: bool = False
    ) -> None:
        """Record that an image, or a question about it, got no answer."""
        row = {"id": id, "reason": reason, "detail": redact(detail), "attempts": attempts, "retryable": retryable}
        if question is not None:
            row["question"] = question
        self._failures.append(row)
        key = self._identify(row)
        self._failures_outdated |= key in self.failed
        self.failed[key] = Failure(reason, retryable)

    def sync(self) -> int:
        """Make all rows written so far safe on the disk, and return the new value of ``saved``."""
        written = self._rows.written - self._joined
        self._rows.sync()
        self._failures.sync()
        self.saved = written
        return written

    def changed_rows(self) -> KeySet:
        """The keys of the rows whose image has changed since the answer."""
        changed = KeySet()
        for _, row in jsonl.read(self.path):
            if _is_row(row) and (key := self._identify(row)) in self.done and not self._is_current(row):
                changed.add(key)
        return changed

    def set_aside(self, keys: KeySet) -> None:
        """Move the rows with these keys to ``<name>.outdated.jsonl``; none of them may be asked about meanwhile."""
        append_lines(self.outdated_path, (line for line, key in self._lines() if key in keys))
        self._rows.rewrite(line for line, key in self._lines() if key not in keys)
        self.done = self.done.without(keys)

    def absorb(self, rows: Path) -> int:
        """Move the rows and failures of a slice here, once no process writes to it; how many rows were new.

        Raises:
            DataError: a process holds the slice, or the disk is full; the slice is kept.
        """
        try:
            with _lock(rows).acquire(timeout=DYING_S) as lock:
                joined = self._join(rows)
                self.sync()
                for ending in provenance.FILES:
                    provenance.beside(rows, ending).unlink(missing_ok=True)
                Path(lock.lock_file).unlink(missing_ok=True)
        except Timeout:
            raise LedgerBusy(rows) from None
        return joined

    def answers(self, keys: Iterable[int]) -> list[str]:
        """The answers of rows that were in the ledger, or that of the whole run, when it was opened, by their keys."""
        paths = [self.path, *([self.whole.path] if self.whole else [])]
        found = ((path, self._indexed(path).find(key)) for key in keys for path in paths if path.exists())
        return [_answer_at(path, offset) for path, offset in found if offset is not None]

    def sort(self, target: Path, order: Iterable[int]) -> int:
        """Write the rows to ``target`` in the ``order`` of their keys, and return their number."""
        index = self._index(self.path)
        with self.path.open("rb") as rows:

            def in_order() -> Iterator[bytes]:
                for key in order:
                    if (offset := index.find(key)) is not None:
                        rows.seek(offset)
                        yield rows.readline()

            return atomic.replace(target, in_order())

    def _indexed(self, path: Path) -> OffsetIndex:
        if path not in self._indexes:
            self._indexes[path] = self._index(path)
        return self._indexes[path]

    def _index(self, path: Path) -> OffsetIndex:
        index = OffsetIndex()
        for _, offset, _, row in jsonl.scan(path):
            if isinstance(row, dict):
                index.add(self._identify(row), offset)
        return index

    def _open(self) -> None:
        """Read what is there, and open the files for appending."""
        for path in (self.path, self.failures_path):
            cut_torn_line(path)
        for row in self._valid_rows(self.path):
            self.done.add(self._identify(row))
        self._rows.open()
        self._failures.open()
        self._join_partial_ledgers()
        self._joined = self._rows.written
        for row in self._valid_rows(self.failures_path):
            key, found = self._identify(row), failure(row)
            # This run examines an image that could not be used again, and records it again if it still cannot be.
            if key in self.done or (found.retryable and row.get("attempts") == 0):
                self._failures_outdated = True
            else:
                self._failures_outdated |= key in self.failed
                self.failed[key] = found

    def _valid_rows(self, path: Path) -> Iterator[Row]:
        """The rows of a file of the ledger; damaged lines are moved to a file of their own."""
        if not path.exists():
            return
        damaged = 0
        for _, row in jsonl.read(path):
            if _is_row(row):
                yield row
            else:
                damaged += 1
        if damaged:
            append_lines(self.corrupt_path, (line for _, _, line, row in jsonl.scan(path) if not _is_row(row)))
            atomic.replace(path, (line for _, _, line, row in jsonl.scan(path) if _is_row(row)))
            say(
                f"{path}: {damaged} damaged lines were moved to {self.corrupt_path}; their images are asked "
                "about again."
            )

    def _join_partial_ledgers(self) -> None:
        """Copy the rows of the same settings that a preview or other machines made, and take those of slices."""
        taken = 0
        for rows, is_slice in partial.found(self.path, self._settings, self._if_changed):
            if is_slice:
                taken += self.absorb(rows)
            elif joined := self._join(rows):
                say(f"{joined} rows joined from {rows.name}")
        if taken:
            say(f"{taken} rows joined from slices that drivers had left")

    def _join(self, rows: Path) -> int:
        """Copy the rows of another ledger that are new here, and its failures; how many rows there were."""
        before = self._rows.written
        for row in _read(rows):
            if self.done.add(self._identify(row)):
                self.append(row)
        for row in _read(provenance.beside(rows, "failures.jsonl")):
            if (key := self._identify(row)) not in self.done:
                self._failures.append(row)
                self._failures_outdated |= key in self.failed
                self.failed[key] = failure(row)
        return self._rows.written - before

    def _lines(self) -> Iterator[tuple[bytes, int]]:
        """The lines of all rows with their keys."""
        return ((line, self._identify(row)) for _, _, line, row in jsonl.scan(self.path) if _is_row(row))

    def _tidy_failures(self) -> None:
        """Keep in the failures file only what has no answer, each once."""
        if self._failures_outdated:
            last: dict[int, bytes] = {}
            for _, _, line, row in jsonl.scan(self.failures_path):
                if _is_row(row) and (key := self._identify(row)) in self.failed:
                    last[key] = line
            atomic.replace(self.failures_path, last.values())


def answered(path: Path, identify: Callable[[Row], int]) -> KeySet:
    """The keys of the rows in a file, which another process may be writing; none if it is missing."""
    keys = KeySet()
    for row in _read(path):
        keys.add(identify(row))
    return keys


def _read(path: Path) -> Iterator[Row]:
    """The valid rows of a file, which may be missing."""
    return (row for _, row in jsonl.read(path) if _is_row(row)) if path.exists() else iter(())


def _lock(rows: Path) -> FileLock:
    return FileLock(rows.with_name(f".{rows.stem}.lock"))


def _answer_at(path: Path, offset: int) -> str:
    with path.open("rb") as rows:
        rows.seek(offset)
        row = jsonl.parse(1, rows.readline())
    return str(row["answer"]) if isinstance(row, dict) else ""


def _is_row(row: Any) -> TypeGuard[Row]:
    return isinstance(row, dict) and isinstance(row.get("id"), str)
