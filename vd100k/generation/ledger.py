"""The ledger of a generation: append-only JSONL rows, resumed after anything, guarded by settings."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeGuard

import orjson
from filelock import FileLock, Timeout

from vd100k.console import say
from vd100k.errors import DataError
from vd100k.io import append_log as journal
from vd100k.io import fingerprint
from vd100k.io import key_set as keys

Row = dict[str, Any]
PARTIAL = re.compile(r"\.preview|\.shard-\d+-of-\d+")  # what a preview, or one of several machines, adds to the name


class Ledger:
    """Rows at ``path``, what got no answer beside them in ``<name>.failures.jsonl``.

    A row is found by its key, ``identify(row)``: its image, or a question about it. ``settings`` is
    what decides the answers (model, prompt, sampling). Rows made with other settings are never
    mixed with these: ``if_changed`` says whether to ``refuse`` or to ``set_aside`` the old files
    under another name; those made with the settings of now come back from there. Rows of the same
    settings in ``<name>.preview.jsonl`` and ``<name>.shard-K-of-N.jsonl`` are taken in. A second
    process is refused.

    ``done`` are the keys found on entering, ``failed`` the reasons last given by key.

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
        identify: Callable[[Row], int] = lambda row: keys.key(row["id"]),
    ) -> None:
        self.path = path
        self.failures_path = path.with_name(f"{path.stem}.failures.jsonl")
        self.settings_path = path.with_name(f"{path.stem}.settings.json")
        self.corrupt_path = path.with_name(f"{path.stem}.corrupt.jsonl")
        self._settings = settings
        self._if_changed = if_changed
        self._current = current
        self._key = key
        self._identify = identify
        self._lock = FileLock(path.with_name(f".{path.stem}.lock"))
        self.done = keys.Keys()
        self.safe = 0  # rows written since entering that are on the disk
        self.failed: dict[int, str] = {}

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise DataError(f"{self.path}: another process is writing it. Wait for it, or end it.") from None
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written: {error.strerror}.") from error
        try:
            self._guard()
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
        """Write a finished row; it counts once ``sync`` has brought it to the disk."""
        self._rows.append(row)
        if self.failed and (key := self._identify(row)) in self.failed:
            del self.failed[key]
            self._failures_stale = True

    def fail(self, id: str, reason: str, detail: str, attempts: int, question: str | None = None) -> None:
        """Keep an image, or a question about one, that got no answer, with the reason."""
        failure = {"id": id, "reason": reason, "detail": detail, "attempts": attempts}
        if question is not None:
            failure["question"] = question
        self._failures.append(failure)
        key = self._identify(failure)
        self._failures_stale |= key in self.failed
        self.failed[key] = reason

    def sync(self) -> int:
        """Bring what was written to the disk; the number of rows that are safe there since entering."""
        written = self._rows.written
        self._rows.sync()
        self._failures.sync()
        self.safe = written
        return written

    def check_images(self) -> None:
        """Raise DataError if a row's image is another one by now."""
        if why := self._other():
            raise DataError(self._refusal(why))

    def sort(self, target: Path, order: Iterable[int]) -> int:
        """Write the rows to ``target`` in the ``order`` of their keys; how many there were."""
        places = keys.Places()
        with self.path.open("rb") as rows:
            place = 0
            for line in rows:
                places.add(self._identify(orjson.loads(line)), place)
                place += len(line)

            def found() -> Iterator[bytes]:
                for key in order:
                    if (place := places.of(key)) is not None:
                        rows.seek(place)
                        yield rows.readline()

            return journal.replace(target, found())

    def _guard(self) -> None:
        """Refuse, or set aside, rows that other settings or other images made."""
        if self.settings_path.exists() and self.path.exists():
            old = json.loads(self.settings_path.read_text(encoding="utf-8"))
            changed = [key for key in {**old, **self._settings} if old.get(key) != self._settings.get(key)]
            why = "; ".join(f"{k}: {old.get(k)!r} there, {self._settings.get(k)!r} now" for k in changed)
            if why and self._if_changed == "refuse" and self.path.stat().st_size:
                raise DataError(self._refusal(why))
            if why or (self._if_changed == "set_aside" and self._other()):
                self._move(old, away=True)
            if changed:
                self._move(self._settings, away=False)
        write_json(self.settings_path, self._settings)

    def _refusal(self, why: str) -> str:
        return (
            f"{self.path} holds rows made with something else ({why}).\n"
            "Give the new ones a name of their own (task.name=NAME or dataset=NAME), "
            f"or move the old away with {self._key}.if_changed=set_aside."
        )

    def _other(self) -> str:
        """The first row whose image is another one now, in words."""
        rows = (row for _, row in journal.lines(self.path) if isinstance(row, dict))
        row = next((row for row in rows if not self._current(row)), None)
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

    def _open(self) -> None:
        """Learn what is there, and be ready to add to it."""
        for path in (self.path, self.failures_path):
            journal.cut(path)
        for row in self._readable(self.path):
            self.done.add(self._identify(row))
        self._rows = journal.Journal(self.path)
        self._failures = journal.Journal(self.failures_path)
        self._take_in()
        self._failures_stale = False
        for failure in self._readable(self.failures_path):
            key = self._identify(failure)
            self._failures_stale |= key in self.done or key in self.failed
            if key not in self.done:
                self.failed[key] = failure["reason"]

    def _readable(self, path: Path) -> Iterator[Row]:
        """The rows of a file of ours; lines that are none are moved to a file of their own."""
        bad = 0
        for _, row in journal.lines(path):
            if _is_row(row):
                yield row
            else:
                bad += 1
        if bad:
            journal.append_to(self.corrupt_path, (line for line, row in journal.lines(path) if not _is_row(row)))
            journal.replace(path, (line for line, row in journal.lines(path) if _is_row(row)))
            say(f"{path}: {bad} damaged lines were moved to {self.corrupt_path}; what they answered is asked again.")

    def _take_in(self) -> None:
        """Rows of the same settings that a preview or other machines made."""
        for path in sorted(self.path.parent.glob(f"{glob.escape(self.path.stem)}.*.settings.json")):
            name = path.name.removesuffix(".settings.json")
            if not PARTIAL.fullmatch(name.removeprefix(self.path.stem)):
                continue
            if json.loads(path.read_text(encoding="utf-8")) != self._settings:
                continue
            taken = 0
            for _, row in journal.lines(path.with_name(f"{name}.jsonl")):
                if _is_row(row) and self.done.add(self._identify(row)):
                    self._rows.append(row)
                    taken += 1
            if taken:
                say(f"{taken} rows taken over from {name}.jsonl")

    def _tidy_failures(self) -> None:
        """Leave in the failures file what has no answer, each once."""
        if self._failures_stale:
            last: dict[int, bytes] = {}
            for line, failure in journal.lines(self.failures_path):
                if _is_row(failure) and (key := self._identify(failure)) in self.failed:
                    last[key] = line
            journal.replace(self.failures_path, last.values())


def _is_row(row: Any) -> TypeGuard[Row]:
    return isinstance(row, dict) and isinstance(row.get("id"), str)


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


def write_json(path: Path, content: Any) -> None:
    """Replace a small file as a whole, never half of it."""
    scratch = path.with_name(f"{path.name}.tmp")
    scratch.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    scratch.replace(path)


def write_lines(path: Path, rows: list[Row]) -> None:
    """Replace a JSONL file as a whole."""
    journal.replace(path, (f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows))
