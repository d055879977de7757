"""Convert rows into a trainer's files: each row is either written or rejected with a reason."""

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
from rich.table import Table

from vd100k import console
from vd100k.config.run import Run
from vd100k.config.stages import Convert
from vd100k.conversion import dedup, filters
from vd100k.conversion.boxes import BoxWriter
from vd100k.conversion.filters import ImageChecker, RejectedRow, RowFilter
from vd100k.conversion.formats import Layout
from vd100k.conversion.splits import Copies, Splits
from vd100k.conversion.token_lengths import TokenLengths
from vd100k.conversion.writers import JsonWriter, Writer
from vd100k.images.resizing import SizeRule
from vd100k.io.jsonl import Entry, Fault, Row
from vd100k.similarity.cache import LookCache

BLOCK = 1024  # rows whose images are checked in parallel
DUPLICATE_REASONS = {dedup.EXACT: "duplicate", dedup.NEAR: "near_duplicate"}


@dataclass(frozen=True)
class Job:
    """What to convert: where the rows come from, and where they go."""

    read: Callable[[], Iterable[Entry]]  # called twice if there are duplicates
    image_folders: tuple[Path, ...]  # images outside these folders are not read
    layout: Layout
    writers: dict[str, Callable[[], Writer]]  # by side: train, val, test
    rejected: Path


@dataclass
class Outcome:
    """The result of a job; ``rows`` is the sum of ``sides`` and ``reasons``."""

    rows: int = 0  # rows read
    sides: dict[str, int] = field(default_factory=dict)  # rows written, by side
    reasons: Counter[str] = field(default_factory=Counter)  # rows rejected, by reason
    first: str = ""  # where and why the first row was rejected
    lowest_draw: float | None = None  # a larger split_dataset_ratio would hold out a row; None if nothing was drawn
    models: set[str] = field(default_factory=set)  # the models that answered
    example: Row | None = None  # the first record written
    files: list[dict[str, Any]] = field(default_factory=list)  # path, rows and sha256 of each
    copies: Copies | None = None  # the images that show the same; None if they were not looked for

    @property
    def written(self) -> int:
        """The number of rows written, over all sides."""
        return sum(self.sides.values())

    def why(self) -> str:
        """The number of rejected rows by reason, the most frequent first."""
        return ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common())


def show(outcomes: dict[str, Outcome]) -> None:
    """Print how many rows of each job were read, written and rejected, with the reasons."""
    table = Table(title="Rows", title_justify="left")
    table.add_column("")
    table.add_column("read", justify="right")
    table.add_column("written", justify="right")
    table.add_column("rejected")
    for name, outcome in outcomes.items():
        table.add_row(name, str(outcome.rows), str(outcome.written), outcome.why())
    console.show(table)


def convert(run: Run, stage: Convert, job: Job, token_lengths: TokenLengths) -> Outcome:
    """Convert all rows of a job by the rules and the split of ``stage``; the files appear when all are complete.

    Most sources have no duplicates, and no copies of an image on both sides. So the first pass writes every row and
    collects the keys of the rows and the looks of the images on the way. Only if these show that rows repeat earlier
    ones, or that copies are on different sides, are its files discarded, and a second pass reads the rows again.
    """
    with contextlib.ExitStack() as stack:
        finds_duplicates = stage.rules.duplicate or stage.rules.near_duplicate
        duplicates = stack.enter_context(dedup.DuplicateFinder()) if finds_duplicates else None
        finds_copies = stage.split_by == "copies" and len(job.writers) > 1
        looks = stack.enter_context(LookCache(run.looks)) if finds_copies else None
        uncounted = token_lengths.uncounted
        try:
            return _Pass(run, stage, job, token_lengths, looks, duplicates).run()
        except _Again as found:
            kinds, copies = found.kinds, found.copies
        token_lengths.uncounted = uncounted  # the second pass counts the same rows again
        if looks is not None:
            looks.index()
        return _Pass(run, stage, job, token_lengths, looks, None, kinds, copies).run()


class _Again(Exception):
    """The first pass wrote rows that do not belong there.

    ``kinds`` has one byte per row that was not rejected (see ``dedup``); it is None if no row repeats another.
    """

    def __init__(self, kinds: IO[bytes] | None, copies: Copies | None) -> None:
        super().__init__()
        self.kinds, self.copies = kinds, copies


class _Pass:
    """Reads all rows once, and writes or rejects each of them.

    The first pass collects keys in ``duplicates``, and looks of images; the second one gets what they showed as
    ``kinds`` and ``copies``.
    """

    def __init__(
        self,
        run: Run,
        stage: Convert,
        job: Job,
        token_lengths: TokenLengths,
        looks: LookCache | None,
        duplicates: dedup.DuplicateFinder | None,
        kinds: IO[bytes] | None = None,
        copies: Copies | None = None,
    ) -> None:
        self._stage, self._job, self._system_prompt = stage, job, run.task.system_prompt
        self._duplicates, self._kinds = duplicates, kinds
        self._row_filter = RowFilter(stage.rules, run.task.reader, run.task.prompt, token_lengths)
        reads = run.format.name == "parquet"
        plain, size_rule = stage.folder / "plain", SizeRule.of(run.model)
        self._image_checker = ImageChecker(job.image_folders, plain, stage.rules, size_rule, reads, looks)
        self._boxes = BoxWriter(run, stage.rules.bad_box)
        self._splits = Splits(stage, job.writers, looks, copies)
        self._outcome = Outcome(copies=copies)

    def run(self) -> Outcome:
        """Convert all rows.

        Raises:
            _Again: this is the first pass, and rows repeat earlier ones, or copies are on different sides.
        """
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
                        self._convert(row, writers)
                    except RejectedRow as error:
                        outcome.reasons[error.reason] += 1
                        outcome.first = outcome.first or f"line {number}: {_as_text(str(error)) or error.reason}"
                        rejected.write(_rejection(number, row, error))
                bar.update(task, completed=outcome.rows)
            self._require_no_second_pass()
            outcome.sides = {side: writer.records for side, writer in writers.items()}
            if not outcome.sides.get("test"):
                outcome.sides.pop("test", None)
        outcome.files = [facts for writer in writers.values() for facts in writer.files()]
        outcome.lowest_draw = self._splits.lowest_draw
        return outcome

    def _require_no_second_pass(self) -> None:
        """Raise _Again if this is the first pass, and it showed that some rows do not belong where they are."""
        kinds = None
        if self._duplicates is not None:
            kinds = self._duplicates.find(self._stage.rules.duplicate, self._stage.rules.near_duplicate)
        if (copies := self._splits.copies()) is not None:
            self._outcome.copies = copies
        if kinds is not None or (copies is not None and (copies.sides or (copies.leaked and self._stage.rules.leaked))):
            raise _Again(kinds, copies)

    def _convert(self, row: Row | Fault, writers: dict[str, Writer]) -> None:
        """Write a row, or raise RejectedRow."""
        job = self._job
        if isinstance(row, Fault):
            raise RejectedRow(row.reason, row.detail)
        filters.complete_fields(row)
        image = self._image_checker.check(row["image"])
        self._image_checker.check_unchanged(row, image)
        self._boxes.write(row, image)
        self._row_filter.check(row, image.size)
        # With a hash of its content, an image is recognized under another name too.
        content = row.get("image_sha256")
        identity = content if content.__class__ is str else image.name
        if self._duplicates is not None:
            self._duplicates.add(identity, row["question"])
        elif self._kinds is not None and (kind := self._kinds.read(1)[0]):
            raise RejectedRow(DUPLICATE_REASONS[kind], "an earlier row has the same image and question")
        side = self._splits.side(row, identity, image)
        outcome = self._outcome
        row["image"], row["name"] = image.path, image.name
        record = job.layout(row, self._system_prompt)
        writers[side].write(record)
        if outcome.example is None:
            outcome.example = record
        if (model := row.get("model")).__class__ is str:
            outcome.models.add(model)

    def _blocks(self, stack: contextlib.ExitStack) -> Iterator[list[Entry]]:
        """The rows in blocks; the images of a block are checked in parallel, if they are read at all."""
        lines = iter(self._job.read())
        pool = stack.enter_context(ThreadPoolExecutor()) if self._image_checker.accesses_files else None
        while block := list(islice(lines, BLOCK)):
            if pool is not None:
                rows = (row for _, row in block if isinstance(row, dict))
                by_name = {name: row for row in rows if (name := row.get("image")).__class__ is str and name}
                list(pool.map(self._cache_image, by_name.values()))
            yield block

    def _cache_image(self, row: Row) -> None:
        """Fill the caches of the image checker; a bad image is rejected later, with its row."""
        with contextlib.suppress(RejectedRow):
            self._image_checker.check_unchanged(row, self._image_checker.check(row["image"]))


def _rejection(number: int, row: Row | Fault, error: RejectedRow) -> Row:
    """The record of a rejected row in rejected.jsonl."""
    if isinstance(row, Fault):
        return {"line": number, "id": None, "reason": error.reason, "detail": str(error), "row": row.raw}
    try:
        orjson.dumps(row)
    except TypeError:
        row = {key: _as_text(value) for key, value in row.items()}
    id = row.get("id")
    return {"line": number, "id": id, "reason": error.reason, "detail": _as_text(str(error)), "row": row}


def _as_text(value: object) -> str:
    """A value that JSON cannot hold, such as a list that is nested too deeply or a file name that is not UTF-8."""
    try:
        return str(value).encode(errors="backslashreplace").decode()
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deeply"
