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

from rich.table import Table

from vd100k import console
from vd100k.config.run import Run
from vd100k.config.stages import Convert
from vd100k.conversion import dedup, filters
from vd100k.conversion.boxes import BoxWriter
from vd100k.conversion.conversations import Joiner, unpack
from vd100k.conversion.filters import ImageChecker, RejectedRow, RowFilter, TrainingImage
from vd100k.conversion.formats import Layout
from vd100k.conversion.rejections import as_text, rejection
from vd100k.conversion.splits import Copies, Splits
from vd100k.conversion.token_lengths import TokenLengths
from vd100k.conversion.writers import JsonWriter, Writer
from vd100k.images.groups import joined, names
from vd100k.images.resizing import SizeRule
from vd100k.io.jsonl import Entry, Fault, Row
from vd100k.similarity.cache import LookCache

BLOCK = 1024  # rows whose images are checked in parallel
OPTIONAL_SIDES = ("test", "train.text", "val.text", "test.text")  # left out of the figures if they are empty
DUPLICATE_REASONS = {dedup.EXACT: "duplicate", dedup.NEAR: "near_duplicate"}


@dataclass(frozen=True)
class Job:
    """What to convert: where the rows come from, and where they go."""

    read: Callable[[], Iterable[Entry]]  # called twice if there are duplicates
    image_folders: tuple[Path, ...]  # images outside these folders are not read
    layout: Layout
    writers: dict[str, Callable[[], Writer]]  # by side: train, val, test
    rejected: Path
    single: bool = False  # the layout holds one image and one turn in each row
    amend: Callable[[Row], None] = lambda row: None  # changes a row before the rules are applied
    check: Callable[[Row], None] = lambda row: None  # may reject it after them


@dataclass
class Outcome:
    """The result of a job; ``rows`` is the sum of ``sides``, ``reasons`` and ``joined``."""

    rows: int = 0  # rows read
    sides: dict[str, int] = field(default_factory=dict)  # rows written, by side
    reasons: Counter[str] = field(default_factory=Counter)  # rows rejected, by reason
    joined: int = 0  # rows that became further turns of another row's conversation
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
        self._token_lengths = token_lengths
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
            self._joiner = stack.enter_context(Joiner(self._token_lengths))
            bar = stack.enter_context(console.progress_bar())
            task = bar.add_task("converting", total=None, note="")
            for block in self._blocks(stack):
                for number, row in block:
                    outcome.rows += 1
                    try:
                        self._convert(number, row, writers)
                    except RejectedRow as error:
                        self._reject(number, row, error, rejected)
                bar.update(task, completed=outcome.rows)
            self._require_no_second_pass()
            self._write_joined(writers, rejected)
            outcome.sides = {side: writer.records for side, writer in writers.items()}
            for side in [side for side in OPTIONAL_SIDES if not outcome.sides.get(side)]:
                outcome.sides.pop(side, None)
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

    def _convert(self, number: int, row: Row | Fault, writers: dict[str, Writer]) -> None:
        """Write a row, keep it for a conversation, or raise RejectedRow."""
        stage = self._stage
        if isinstance(row, Fault):
            raise RejectedRow(row.reason, row.detail)
        unpack(row)
        filters.complete_fields(row, stage.text_rows != "reject")
        self._job.amend(row)
        images = self._image_checker.check_all(row)
        if self._job.single:
            _check_single(row, images)
        if len(images) == 1:
            self._boxes.write(row, images[0])
        sizes = [image.size for image in images]
        self._row_filter.check(row, sizes)
        self._job.check(row)
        identity = _identity(row, images)
        if self._duplicates is not None:
            self._duplicates.add(identity, row["question"])
        elif self._kinds is not None and (kind := self._kinds.read(1)[0]):
            raise RejectedRow(DUPLICATE_REASONS[kind], "an earlier row has the same image and question")
        side = self._splits.side(row, identity or row["id"], images)  # rows of text alone are drawn by their id
        if len(images) == 1:
            row["image"], row["name"] = images[0].path, images[0].name
            row.pop("images", None)
        elif images:
            row["images"], row["names"] = [image.path for image in images], [image.name for image in images]
        if (model := row.get("model")).__class__ is str:
            self._outcome.models.add(model)
        if images and (stage.turns == "merge" or "turn" in row):
            self._joiner.add(number, side, identity, row, sizes)
        else:
            self._write(row, side if images or stage.text_rows == "mixed" else f"{side}.text", writers)

    def _write(self, row: Row, side: str, writers: dict[str, Writer]) -> None:
        record = self._job.layout(row, row.get("system") or self._system_prompt)
        writers[side].write(record)
        if self._outcome.example is None:
            self._outcome.example = record

    def _write_joined(self, writers: dict[str, Writer], rejected: JsonWriter) -> None:
        """Write the conversations made of several rows."""
        outcome, before = self._outcome, sum(writer.records for writer in writers.values())
        refused = 0
        for number, side, row, error in self._joiner.joined() if self._joiner.rows else ():
            if error is None:
                self._write(row, side, writers)
            else:
                refused += 1
                self._reject(number, row, error, rejected)
        written = sum(writer.records for writer in writers.values()) - before
        outcome.joined = self._joiner.rows - refused - written

    def _reject(self, number: int, row: Row | Fault, error: RejectedRow, rejected: JsonWriter) -> None:
        outcome = self._outcome
        outcome.reasons[error.reason] += 1
        outcome.first = outcome.first or f"line {number}: {as_text(str(error)) or error.reason}"
        rejected.write(rejection(number, row, error))

    def _blocks(self, stack: contextlib.ExitStack) -> Iterator[list[Entry]]:
        """The rows in blocks; the images of a block are checked in parallel, if they are read at all."""
        lines = iter(self._job.read())
        pool = stack.enter_context(ThreadPoolExecutor()) if self._image_checker.accesses_files else None
        while block := list(islice(lines, BLOCK)):
            if pool is not None:
                rows = (row for _, row in block if isinstance(row, dict))
                by_name = {tuple(given): row for row in rows if (given := names(row))}
                list(pool.map(self._cache_images, by_name.values()))
            yield block

    def _cache_images(self, row: Row) -> None:
        """Fill the caches of the image checker; a bad image is rejected later, with its row."""
        with contextlib.suppress(RejectedRow):
            self._image_checker.check_all(row)


def _identity(row: Row, images: list[TrainingImage]) -> str:
    """What tells the image of a row, or its group: the hash of the content if the row records it, else its name."""
    contents = row.get("images_sha256") if "images" in row else [row.get("image_sha256")]
    if not isinstance(contents, list) or len(contents) != len(images):
        contents = [None] * len(images)
    return joined(
        content if content.__class__ is str else image.name for content, image in zip(contents, images, strict=True)
    )


def _check_single(row: Row, images: list[TrainingImage]) -> None:
    """Refuse what a column for one image and a column for one answer cannot hold."""
    if len(images) != 1:
        detail = f"{len(images)} images, and the first rows have one: only then all rows of the file can have several"
        raise RejectedRow("number_of_images", f"{detail}. Put a row with several images first, or use format=swift")
    if len(row.get("turns", ())) > 1:
        raise RejectedRow("several_turns", "the format has one question and one answer in a row: use format=swift")
