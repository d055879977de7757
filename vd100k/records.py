"""The ledger of a generation: append-only JSONL rows, resumed after anything, guarded by settings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from vd100k import fingerprint
from vd100k.errors import DataError

Row = dict[str, Any]


class Ledger:
    """Rows at ``path``, refused images beside them in ``<name>.failures.jsonl``.

    ``settings`` is what decides the answers (model, prompt, sampling), and ``current(row)`` says
    whether a row's image is still the one it was. Rows made with other settings or of other images
    are never mixed with these: ``if_changed`` says whether to ``refuse`` or to ``set_aside`` the
    old files under another name; those made with the settings of now come back from there. A second
    process is refused. ``identify`` says what a row answers: its image, or a question about it.

    Raises (on entering):
        DataError: other settings, another process, or a file that cannot be written.
    """

    def __init__(
        self,
        path: Path,
        settings: Row,
        if_changed: str = "refuse",
        current: Callable[[Row], bool] = lambda row: True,
        key: str = "stage",
        identify: Callable[[Row], Hashable] = lambda row: row["id"],
    ) -> None:
        self.path = path
        self.failures_path = path.with_name(f"{path.stem}.failures.jsonl")
        self.settings_path = path.with_name(f"{path.stem}.settings.json")
        self._settings = settings
        self._if_changed = if_changed
        self._current = current
        self._key = key
        self._identify = identify
        self._lock = FileLock(path.with_name(f".{path.stem}.lock"))

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise DataError(f"{self.path}: another process is writing it. Wait for it, or end it.") from None
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written: {error.strerror}.") from error
        try:
            for path in (self.path, self.failures_path):
                _mend(path)
            self._guard()
            identify = self._identify
            self.done = {identify(row) for row in read(self.path)}
            # -> the reason given last
            self.failed = {k: r["reason"] for r in read(self.failures_path) if (k := identify(r)) not in self.done}
            self._rows = self.path.open("ab", buffering=0)
            self._failures = self.failures_path.open("ab", buffering=0)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._rows.close()
        self._failures.close()
        self._lock.release()

    def append(self, row: Row) -> None:
        """Add a finished row; it counts once its whole line is on disk."""
        _append(self._rows, row, self.path)
        self.done.add(self._identify(row))
        self.failed.pop(self._identify(row), None)

    def fail(self, id: str, reason: str, detail: str, attempts: int, question: str | None = None) -> None:
        """Keep an image, or a question about one, that got no answer, with the reason."""
        failure = {"id": id, "reason": reason, "detail": detail, "attempts": attempts}
        if question is not None:
            failure["question"] = question
        _append(self._failures, failure, self.failures_path)
        self.failed[self._identify(failure)] = reason

    def _guard(self) -> None:
        """Refuse, or set aside, rows that other settings or other images made."""
        if self.settings_path.exists() and self.path.exists():
            old = json.loads(self.settings_path.read_text(encoding="utf-8"))
            changed = [key for key in {**old, **self._settings} if old.get(key) != self._settings.get(key)]
            why = (
                "; ".join(f"{k}: {old.get(k)!r} there, {self._settings.get(k)!r} now" for k in changed) or self._other()
            )
            if why and self._if_changed == "refuse":
                raise DataError(
                    f"{self.path} holds rows made with something else ({why}).\n"
                    "Give the new ones a name of their own (task.name=NAME or dataset=NAME), "
                    f"or move the old away with {self._key}.if_changed=set_aside."
                )
            if why:
                self._move(old, away=True)
            if changed:
                self._move(self._settings, away=False)
        write_json(self.settings_path, self._settings)

    def _other(self) -> str:
        """The first row whose image is another one now, in words."""
        row = next((row for row in read(self.path) if not self._current(row)), None)
        return f"{row['id']} was another image then" if row else ""

    def _move(self, settings: Row, away: bool) -> None:
        """The files to where those made with ``settings`` are set aside, or back from there."""
        mark = fingerprint.of(settings)[:8]
        for path in (self.path, self.failures_path, self.settings_path):
            aside = path.with_name(f"{path.name}.{mark}")
            if away:
                number = 2
                while aside.exists():
                    aside, number = path.with_name(f"{path.name}.{mark}.{number}"), number + 1
            source, target = (path, aside) if away else (aside, path)
            if source.exists():
                source.rename(target)


def read(path: Path) -> Iterator[Row]:
    """The rows of a JSONL file, none if it is missing.

    Raises:
        DataError: a line that is not a JSON object, with its number.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("not an object")
            except ValueError as error:
                raise DataError(
                    f"{path}, line {number}: {error}. Mend or remove the line; the rest is kept."
                ) from error
            yield row


def _mend(path: Path) -> None:
    """Cut off a last line that a crash left unfinished."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return
        # Backwards in blocks to the last newline; what follows it is the torn line.
        keep, start = 0, end
        while start > 0 and keep == 0:
            stop, start = start, max(0, start - 65536)
            file.seek(start)
            newline = file.read(stop - start).rfind(b"\n")
            keep = start + newline + 1 if newline >= 0 else 0
        if keep < end:
            file.truncate(keep)


def _append(file: Any, row: Row, path: Path) -> None:
    line = json.dumps(row, ensure_ascii=False).encode(errors="replace") + b"\n"
    try:
        written = file.write(line)
        if written != len(line):  # a disk that is nearly full takes a part
            raise OSError(28, "No space left on device")
    except OSError as error:
        raise DataError(
            f"{path}: could not be written: {error.strerror}. What was answered before is kept: "
            "make room and run the same command again."
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Replace a small file as a whole, never half of it."""
    scratch = path.with_name(f"{path.name}.tmp")
    scratch.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    scratch.replace(path)


def write_lines(path: Path, rows: list[Row]) -> None:
    """Replace a JSONL file as a whole."""
    scratch = path.with_name(f"{path.name}.tmp")
    with scratch.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    scratch.replace(path)
