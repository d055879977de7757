"""Convert rows into a trainer's files: each row is either written or rejected with a reason."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from rich.table import Table

from vd100k import console
from vd100k.conversion.blocks import BlockConverter, Converted, Recipe
from vd100k.conversion.conversations import Joiner
from vd100k.conversion.splits import Copies
from vd100k.errors import DataError
from vd100k.io.jsonl import Row, dump
from vd100k.io.repeats import KEY, RepeatFinder
from vd100k.io.writers import JsonWriter, Writer
from vd100k.parallel.ordered import in_order
from vd100k.similarity.cache import LookCache
from vd100k.sources.blocks import Block, Lines

ALONE = 8  # blocks that one process converts faster than several, which have to be started
OPTIONAL_SIDES = ("test", "train.text", "val.text", "test.text")  # left out of the figures if they are empty


@dataclass(frozen=True)
class Job:
    """What to convert, and how: where the rows come from, and where they go."""

    read: Callable[[], Iterable[Block]]  # called twice if rows repeat others
    recipe: Recipe
    writers: dict[str, Callable[[], Writer]]  # by side: train, val, test
    rejected: Path


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
    uncounted: int = 0  # rows whose tokens could not be counted

    @property
    def written(self) -> int:
        """The number of rows written, over all sides."""
        return sum(self.sides.values())

    def add(self, converted: Converted) -> None:
        """Count the rows of a block."""
        self.rows += converted.rows
        self.reasons.update(converted.reasons)
        self.first = self.first or converted.first
        self.models |= converted.models
        self.example = self.example or converted.example
        self.uncounted += converted.uncounted
        draws = [draw for draw in (self.lowest_draw, converted.lowest_draw) if draw is not None]
        self.lowest_draw = min(draws, default=None)

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


def convert(job: Job) -> Outcome:
    """Convert all rows of a job; the files appear when all are complete.

    Most sources have no duplicates, and no copies of an image on both sides. So the first pass writes every row and
    collects the keys of the rows and the looks of the images on the way. Only if these show that rows repeat earlier
    ones, or that copies are on different sides, are its files discarded, and a second pass reads the rows again.
    """
    run, stage = job.recipe.run, job.recipe.stage
    with contextlib.ExitStack() as stack:
        finder = stack.enter_context(RepeatFinder())
        finds_copies = stage.split_by == "copies" and len(job.writers) > 1 and stage.rules.open_images
        looks = stack.enter_context(LookCache(run.looks)) if finds_copies else None
        try:
            return _Pass(job, looks, finder).run()
        except _Again as found:
            again = found
        if looks is not None:
            looks.index()
        return _Pass(job, looks, finder, again).run()


class _Again(Exception):
    """The first pass wrote rows that do not belong there.

    ``kinds`` has one byte per row that broke no rule (see ``repeats``), and is None if no row repeats another;
    ``kept`` is the number of such rows in each block.
    """

    def __init__(self, kinds: IO[bytes] | None, copies: Copies | None, kept: list[int]) -> None:
        super().__init__()
        self.kinds, self.copies, self.kept = kinds, copies, kept


class _Pass:
    """Reads all rows once, and writes or rejects each of them.

    The first pass collects keys in ``finder``, and looks of images; the second one gets what they showed as ``again``.
    """

    def __init__(self, job: Job, looks: LookCache | None, finder: RepeatFinder, again: _Again | None = None) -> None:
        self._job, self._finder, self._again = job, finder, again
        copies = again.copies if again else None
        self._converter = BlockConverter(job.recipe, looks, copies)
        self._kept: list[int] = []  # by block, the rows that break no rule
        self._outcome = Outcome(copies=copies)

    def run(self) -> Outcome:
        """Convert all rows.

        Raises:
            _Again: this is the first pass, and rows repeat earlier ones, or copies are on different sides.
            DataError: this is the second pass, and rows or images are not what they were in the first.
        """
        job, outcome = self._job, self._outcome
        with contextlib.ExitStack() as stack:
            self._writers = {side: stack.enter_context(make()) for side, make in job.writers.items()}
            self._rejected = stack.enter_context(JsonWriter(job.rejected))
            self._joiner = stack.enter_context(Joiner(job.recipe.token_lengths))
            stack.callback(self._converter.close)
            bar = stack.enter_context(console.progress_bar())
            task = bar.add_task("converting", total=None, note="")
            for converted in stack.enter_context(contextlib.closing(self._converted())):
                self._take(converted)
                bar.update(task, completed=outcome.rows)
            self._require_no_second_pass()
            self._write_joined()
            outcome.sides = {side: writer.records for side, writer in self._writers.items()}
            for side in [side for side in OPTIONAL_SIDES if not outcome.sides.get(side)]:
                outcome.sides.pop(side, None)
        outcome.files = [facts for writer in self._writers.values() for facts in writer.files()]
        return outcome

    def _converted(self) -> Generator[Converted]:
        """What became of each block, done by this process or by several."""
        recipe, blocks = self._job.recipe, iter(self._job.read())
        first = list(islice(blocks, 1))
        # Images are decoded by threads of this process, which knows the looks; the gate looks rows up in files.
        is_shared = not (recipe.stage.rules.open_images or recipe.amend or recipe.check)
        processes = recipe.stage.process_count if is_shared and first and isinstance(first[0], Lines) else 1
        tasks = self._with_kinds(chain(first, blocks))
        try:
            yield from in_order(self._converter, partial(BlockConverter, recipe), tasks, processes, ALONE)
        except BrokenProcessPool as error:
            raise DataError(
                "A process that shares the work was killed, perhaps because the memory is full. With "
                f"{recipe.run.key}.processes=1, one process does everything."
            ) from error

    def _with_kinds(self, blocks: Iterable[Block]) -> Iterator[tuple[Block, bytes]]:
        """Each block with one byte for each of its rows that breaks no rule, if the first pass found repeated ones."""
        again = self._again
        for number, block in enumerate(blocks):
            kept = again.kept[number] if again and number < len(again.kept) else 0
            yield block, again.kinds.read(kept) if again and again.kinds else b""

    def _take(self, converted: Converted) -> None:
        """Write what became of a block, and keep what needs rows of other blocks."""
        outcome, kept = self._outcome, len(converted.keys) // KEY
        for side, (records, lines) in converted.sides.items():
            self._writers[side].write(lines, records)
        self._rejected.write(bytes(converted.rejected), converted.reasons.total())
        for turn in converted.turns:
            self._joiner.add(turn)
        if self._again is None:
            self._finder.add(converted.keys)
        elif self._again.kinds and self._again.kept[len(self._kept) :][:1] != [kept]:
            raise DataError("The rows or their images changed while they were converted: convert them again.")
        self._kept.append(kept)
        outcome.add(converted)

    def _require_no_second_pass(self) -> None:
        """Raise _Again if this is the first pass, and it showed that some rows do not belong where they are."""
        if self._again is not None:
            return
        rules = self._job.recipe.stage.rules
        kinds = self._finder.find(rules.duplicate, rules.near_duplicate)
        copies = self._outcome.copies = self._converter.splits.copies()
        if kinds is not None or (copies is not None and (copies.sides or (copies.leaked and rules.leaked))):
            raise _Again(kinds, copies, self._kept)

    def _write_joined(self) -> None:
        """Write the conversations made of several rows."""
        outcome, recipe, joiner = self._outcome, self._job.recipe, self._joiner
        uncounted, refused, written = recipe.token_lengths.uncounted, Converted(), 0
        for number, side, row, error in joiner.joined() if joiner.rows else ():
            if error is None:
                record = recipe.layout(row, row.get("system") or recipe.run.task.system_prompt)
                self._writers[side].write(dump(record), 1)
                outcome.example = outcome.example or record
                written += 1
            else:
                refused.reject(number, row, error)
        self._rejected.write(bytes(refused.rejected), refused.reasons.total())
        outcome.joined = joiner.rows - refused.reasons.total() - written
        refused.uncounted = recipe.token_lengths.uncounted - uncounted
        outcome.add(refused)
