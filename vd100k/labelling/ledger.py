"""The labels that one person gives, each safe on the disk before the next row is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from vd100k.errors import DataError
from vd100k.io.append_log import AppendLog, cut_torn_line
from vd100k.labelling.labels import Identity, Label, identity, read
from vd100k.labelling.sample import Drawn


class Ledger:
    """Appends labels to a file, and knows the last one of ``by`` about each answer.

    Raises (on entering):
        DataError: another process appends to the file, or it cannot be written.
    """

    def __init__(self, path: Path, by: str) -> None:
        self.path, self.by = path, by
        self.faults: tuple[str, ...] = ()
        self._log = AppendLog(path)
        self._lock = FileLock(path.with_name(f".{path.stem}.lock"))
        self._last: dict[Identity, Label] = {}

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise DataError(
                f"{self.path}: another page appends labels to it. Use that page, or close it (Ctrl-C)."
            ) from None
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written: {error.strerror}.") from error
        try:
            cut_torn_line(self.path)
            self._log.open()
            self._last, self.faults = last_labels(self.path, self.by)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._log.close()
        self._lock.release()

    def of(self, drawn: Drawn) -> Label | None:
        """The last label of this person about the row's answer; None if there is none."""
        return self._last.get(identity(drawn.row))

    def append(self, drawn: Drawn, right: bool | None, corrected: str | None = None) -> None:
        """Record a label: right, wrong, or None for skipped. It survives whatever happens next.

        Raises:
            DataError: the disk is full; nothing of the label is left in the file.
        """
        id, question, digest = key = identity(drawn.row)
        when = datetime.now(UTC).isoformat(timespec="seconds")
        label = Label(id, question, digest, right, corrected, self.by, when, drawn.stratum)
        self._log.append({name: value for name, value in vars(label).items() if name != "stratum" or value})
        self._log.sync()
        self._last[key] = label


def last_labels(path: Path, by: str) -> tuple[dict[Identity, Label], tuple[str, ...]]:
    """The last label of a person about each answer, and the faults of the file; nothing if there is no file."""
    if not path.exists():
        return {}, ()
    found = read(path)
    mine = (label for label in found.given if label.by == by)
    return {(label.id, label.question or "", label.answer_sha256 or ""): label for label in mine}, found.faults
