"""Rows through the quality gate into a trainer's files: each one written, or kept aside with its reason."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import orjson
import xxhash
from rich.table import Table

from vd100k import console
from vd100k.config.run import Run
from vd100k.config.stages import Convert
from vd100k.conversion import dedup, filters
from vd100k.conversion.filters import ImageChecker, RejectedRow, RowFilter
from vd100k.conversion.formats import Layout
from vd100k.conversion.sources import SPLITS
from vd100k.conversion.token_lengths import TokenLengths
from vd100k.conversion.writers import JsonWriter, Writer
from vd100k.io.jsonl import Entry, Fault, Row

BLOCK = 1024  # rows whose images are looked at together
KINDS = {dedup.EXACT: "duplicate", dedup.NEAR: "near_duplicate"}


@dataclass(frozen=True)
class Job:
    """Where rows come from (asked for again where some repeat), and where they go."""

    read: Callable[[], Iterable[Entry]]
    image_folders: tuple[Path, ...]  # no image outside of them is read
    layout: Layout
    writers: dict[str, Callable[[], Writer]]  # by side: train, val, test
    rejected: Path


@dataclass
class Outcome:
    """Where every row went: ``rows`` is the sum of ``sides`` and ``reasons``."""

    rows: int = 0
    sides: dict[str, int] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    models: set[str] = field(default_factory=set)
    example: Row | None = None
    files: list[dict[str, Any]] = field(default_factory=list)

    @property
    def written(self) -> int:
        return sum(self.sides.values())

    def why(self) -> str:
        """The reasons and how often each, the commonest first."""
        return ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common())


def show(outcomes: dict[str, Outcome]) -> None:
    """What became of the rows of each, and of those that were rejected, why."""
    table = Table(title="rows", title_justify="left")
    table.add_column("")
    table.add_column("read", justify="right")
    table.add_column("written", justify="right")
    table.add_column("rejected")
    for name, outcome in outcomes.items():
        table.add_row(name, str(outcome.rows), str(outcome.written), outcome.why())
    console.show(table)


def convert(run: Run, stage: Convert, job: Job, lengths: TokenLengths) -> Outcome:
    """Run a job, by the rules and the split of ``stage``, to its end; its files appear only then.

    Nearly always no row repeats another, so one pass writes all and finds out on the way; where
    some do, a second pass knows which.
    """
    with contextlib.ExitStack() as stack:
        either = stage.rules.duplicate or stage.rules.near_duplicate
        seen = stack.enter_context(dedup.DuplicateFinder()) if either else None
        first = _Pass(run, stage, job, lengths, seen)
        uncounted = lengths.uncounted
        with contextlib.suppress(_Again):
            return first.read()
        lengths.uncounted = uncounted  # the same rows are counted once more
        return _Pass(run, stage, job, lengths, None, first.marks).read()


class _Again(Exception):
    """Some of the rows written repeat others."""


class _Pass:
    """One reading of all rows."""

    def __init__(
        self,
        run: Run,
        stage: Convert,
        job: Job,
        lengths: TokenLengths,
        seen: dedup.DuplicateFinder | None,
        marks: IO[bytes] | None = None,
    ) -> None:
        self.marks = marks
        self._stage, self._job, self._seen, self._system = stage, job, seen, run.task.system_prompt
        self._filter = RowFilter(stage.rules, run.task.reader, run.task.prompt, lengths)
        reads = run.format.name == "parquet"
        copies = stage.folder / "plain"
        self._pictures = ImageChecker(job.image_folders, copies, stage.rules, run.model.min_pixels, reads)
        self._outcome = Outcome()

    def read(self) -> Outcome:
        job, outcome = self._job, self._outcome
        with contextlib.ExitStack() as stack:
            writers = {side: stack.enter_context(make()) for side, make in job.writers.items()}
            rejected = stack.enter_context(JsonWriter(job.rejected))
            bar = stack.enter_context(console.progress_bar())
            task = bar.add_task("converting", total=None, note="")
            for block in self._blocks(stack):
                for number, row in block:
                    outcome.rows += 1
                    try:
                        self._one(row, writers)
                    except RejectedRow as error:
                        outcome.reasons[error.reason] += 1
                        rejected.write(_rejection(number, row, error))
                bar.update(task, completed=outcome.rows)
            if self._seen is not None:
                self.marks = self._seen.found(self._stage.rules.duplicate, self._stage.rules.near_duplicate)
                if self.marks is not None:
                    raise _Again
            outcome.sides = {side: writer.records for side, writer in writers.items()}
            if not outcome.sides.get("test"):
                outcome.sides.pop("test", None)
        outcome.files = [facts for writer in writers.values() for facts in writer.files()]
        return outcome

    def _one(self, row: Row | Fault, writers: dict[str, Writer]) -> None:
        """Write a row, or raise RejectedRow."""
        job = self._job
        if isinstance(row, Fault):
            raise RejectedRow(row.reason, row.detail)
        filters.complete_fields(row)
        picture = self._pictures.at(row["image"])
        self._filter.check(row, picture.size)
        # The same picture is the same under another name where the row knows its content.
        content = row.get("image_sha256")
        identity = content if content.__class__ is str else picture.name
        if self._seen is not None:
            self._seen.add(identity, row["question"])
        elif self.marks is not None and (kind := self.marks.read(1)[0]):
            raise RejectedRow(KINDS[kind], "the same image and question came before")
        outcome = self._outcome
        row["image"], row["name"] = picture.path, picture.name
        record = job.layout(row, self._system)
        writers[self._side(row, identity)].write(record)
        if outcome.example is None:
            outcome.example = record
        if (model := row.get("model")).__class__ is str:
            outcome.models.add(model)

    def _side(self, row: Row, identity: str) -> str:
        """Where the row belongs: as its source says, or drawn by its image."""
        job = self._job
        split = row.get("split")
        if split.__class__ is str and (named := SPLITS.get(split)):
            return named if named in job.writers else next(iter(job.writers))
        held_out = self._stage.split_dataset_ratio
        if not held_out or "val" not in job.writers:
            return "train"
        drawn = xxhash.xxh3_64_intdigest(identity.encode(), self._stage.data_seed % 2**64)
        return "val" if drawn < held_out * 2**64 else "train"

    def _blocks(self, stack: contextlib.ExitStack) -> Iterator[list[Entry]]:
        """The rows in blocks; where images are looked at, those of a block at the same time."""
        lines = iter(self._job.read())
        looks = self._pictures.looks
        pool = stack.enter_context(ThreadPoolExecutor()) if looks else None
        while block := list(islice(lines, BLOCK)):
            if pool is not None:
                names = {row.get("image") for _, row in block if isinstance(row, dict)}
                list(pool.map(self._look, (name for name in names if isinstance(name, str) and name)))
            yield block

    def _look(self, name: str) -> None:
        """Have the image in the cache; one that is unfit says so when its row comes."""
        with contextlib.suppress(RejectedRow):
            self._pictures.at(name)


def _rejection(number: int, row: Row | Fault, error: RejectedRow) -> Row:
    """What is kept of a row that was not written."""
    if isinstance(row, Fault):
        return {"line": number, "id": None, "reason": error.reason, "detail": str(error), "row": row.raw}
    try:
        orjson.dumps(row)
    except TypeError:
        row = {key: str(value) for key, value in row.items()}
    id = row.get("id")
    return {"line": number, "id": id, "reason": error.reason, "detail": str(error), "row": row}
