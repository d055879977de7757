"""What a conversion does with a block of rows: all that needs no rows of other blocks, so any process can do it."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import orjson
import xxhash

from vd100k.answers.texts import normalized
from vd100k.config.run import Run
from vd100k.config.stages import Convert
from vd100k.conversion import filters
from vd100k.conversion.boxes import BoxWriter
from vd100k.conversion.conversations import Added, added, unpack
from vd100k.conversion.filters import RejectedRow, RowFilter
from vd100k.conversion.formats import Layout
from vd100k.conversion.images import ImageChecker, TrainingImage
from vd100k.conversion.ordinary import OrdinaryRows
from vd100k.conversion.rejections import as_text, rejection
from vd100k.conversion.splits import Copies, Splits
from vd100k.conversion.token_lengths import TokenLengths
from vd100k.images.groups import joined, names
from vd100k.images.resizing import SizeRule
from vd100k.io.jsonl import Entry, Fault, Row
from vd100k.io.repeats import EXACT, KEY, NEAR, NEW
from vd100k.similarity.cache import LookCache
from vd100k.sources.blocks import Block

AHEAD = 1024  # rows whose images are checked in parallel, before the rows themselves
REPEATS = {EXACT: "duplicate", NEAR: "near_duplicate"}


@dataclass(frozen=True)
class Recipe:
    """How rows are converted; what a process is told that converts some of them."""

    run: Run
    stage: Convert
    token_lengths: TokenLengths
    image_folders: tuple[str, ...]  # images outside these folders are not read
    layout: Layout
    sides: tuple[str, ...]  # that rows can be on
    single: bool = False  # the layout holds one image and one turn in each row
    amend: Callable[[Row], None] | None = None  # changes a row before the rules are applied
    check: Callable[[Row], None] | None = None  # may reject it after them


@dataclass
class Converted:
    """What became of the rows of a block, in their order."""

    rows: int = 0  # rows read
    sides: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # records, and their lines
    rejected: bytearray = field(default_factory=bytearray)  # lines
    reasons: Counter[str] = field(default_factory=Counter)  # rows rejected, by reason
    first: str = ""  # where and why the first row was rejected
    keys: bytes = b""  # of the rows that break no rule: see ``RepeatFinder``
    turns: list[Added] = field(default_factory=list)  # rows that may become turns of a conversation
    models: set[str] = field(default_factory=set)  # the models that answered
    lowest_draw: float | None = None  # of the rows until now: see ``Splits``
    example: Row | None = None  # the first record
    uncounted: int = 0  # rows whose tokens could not be counted

    def reject(self, number: int, row: Row | Fault, error: RejectedRow) -> None:
        """Write and count a rejected row."""
        self.reasons[error.reason] += 1
        self.first = self.first or f"line {number}: {as_text(str(error)) or error.reason}"
        self.rejected += rejection(number, row, error)


class BlockConverter:
    """Converts blocks of rows: each row is written or rejected, or kept as a turn of a conversation.

    ``looks`` and ``copies`` are for the search for copies of images, which needs all blocks in their order.
    """

    def __init__(self, recipe: Recipe, looks: LookCache | None = None, copies: Copies | None = None) -> None:
        run, stage = recipe.run, recipe.stage
        self.recipe, self.system_prompt = recipe, run.task.system_prompt
        self._takes_text, self._merges = stage.text_rows != "reject", stage.turns == "merge"
        self.row_filter = RowFilter(stage.rules, run.task.reader, run.task.prompt, recipe.token_lengths)
        reads = run.format.name == "parquet"
        plain, size_rule = stage.folder / "plain", SizeRule.of(run.model)
        self.images = ImageChecker(recipe.image_folders, plain, stage.rules, size_rule, reads, looks)
        self._threads = ThreadPoolExecutor() if self.images.accesses_files else None
        self._boxes = BoxWriter(run, stage.rules.bad_box) if run.task.reader == "boxes" else None
        self.keys = Keys()
        self.splits = Splits(stage, recipe.sides, looks, copies)
        self._ordinary = OrdinaryRows(self)

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()

    def __call__(self, task: tuple[Block, bytes]) -> Converted:
        """Convert the rows of a block; the bytes say of each row that breaks no rule whether it is NEW (see repeats).

        They are empty as long as that is not known.
        """
        block, self.kinds = task
        self.converted = converted = Converted()
        self.lines = defaultdict[str, bytearray](bytearray)
        uncounted = self.recipe.token_lengths.uncounted
        entries = block.entries()
        if self._threads is not None:
            entries = self._after_their_images(entries, self._threads)
        if self._ordinary.exist:
            converted.rows = self._ordinary.write(entries)
        else:
            for number, row in entries:
                converted.rows += 1
                self.convert(number, row)
        converted.sides = {side: (lines.count(b"\n"), bytes(lines)) for side, lines in self.lines.items()}
        converted.keys, converted.lowest_draw = self.keys.taken(), self.splits.lowest_draw
        converted.uncounted = self.recipe.token_lengths.uncounted - uncounted
        return converted

    def convert(self, number: int, row: Row | Fault) -> None:
        """Write a row, keep it for a conversation, or reject it."""
        try:
            self._convert(number, row)
        except RejectedRow as error:
            self.converted.reject(number, row, error)

    def _convert(self, number: int, row: Row | Fault) -> None:
        """Write a row, keep it for a conversation, or raise RejectedRow."""
        recipe, converted = self.recipe, self.converted
        if isinstance(row, Fault):
            raise RejectedRow(row.reason, row.detail)
        unpack(row)
        filters.complete_fields(row, self._takes_text)
        if recipe.amend is not None:
            recipe.amend(row)
        images = self.images.check_all(row)
        if recipe.single:
            _check_single(row, images)
        if self._boxes is not None and len(images) == 1:
            self._boxes.write(row, images[0])
        sizes = [image.size for image in images]
        self.row_filter.check(row, sizes)
        if recipe.check is not None:
            recipe.check(row)
        identity = _identity(row, images)
        place = len(self.keys.made) // KEY
        self.keys.add(identity, row["question"])
        if (kind := NEW if place >= len(self.kinds) else self.kinds[place]) != NEW:
            raise RejectedRow(REPEATS[kind], "an earlier row has the same image and question")
        side = self.splits.side(row, identity or row["id"], images)  # rows of text alone are drawn by their id
        if len(images) == 1:
            row["image"], row["name"] = images[0].path, images[0].name
            row.pop("images", None)
        elif images:
            row["images"], row["names"] = [image.path for image in images], [image.name for image in images]
        if (model := row.get("model")).__class__ is str:
            converted.models.add(model)
        if images and (self._merges or "turn" in row):
            converted.turns.append(added(number, side, identity, row, sizes))
        else:
            record = recipe.layout(row, row.get("system") or self.system_prompt)
            side = side if images or recipe.stage.text_rows == "mixed" else f"{side}.text"
            self.lines[side] += orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
            converted.example = converted.example or record

    def _after_their_images(self, entries: Iterable[Entry], threads: ThreadPoolExecutor) -> Iterator[Entry]:
        """The same rows; their images are checked before, in parallel."""
        entries = iter(entries)
        while some := list(islice(entries, AHEAD)):
            rows = (row for _, row in some if isinstance(row, dict))
            by_name = {tuple(given): row for row in rows if (given := names(row))}
            list(threads.map(self._cache_images, by_name.values()))
            yield from some

    def _cache_images(self, row: Row) -> None:
        """Fill the caches of the image checker; a bad image is rejected later, with its row."""
        with contextlib.suppress(RejectedRow):
            self.images.check_all(row)


class Keys:
    """The keys by which repeated rows are found: the image with the normalized question, and the question as it is."""

    def __init__(self) -> None:
        self.made = bytearray()
        self._image, self._seed = "", xxhash.xxh3_64_intdigest(b"")

    def add(self, image: str, question: str) -> None:
        """Make the key of a row."""
        if image != self._image:  # usually, the rows of an image follow each other
            self._image, self._seed = image, xxhash.xxh3_64_intdigest(image.encode(errors="surrogatepass"))
        exact = question.encode() if question.isascii() else question.encode(errors="surrogatepass")
        digest = xxhash.xxh3_64_digest
        self.made += digest(normalized(question, exact), self._seed) + digest(exact)

    def taken(self) -> bytes:
        """All keys since the last time."""
        made, self.made = self.made, bytearray()
        return bytes(made)


def _identity(row: Row, images: list[TrainingImage]) -> str:
    """What tells the image of a row, or its group: the hash of the content if the row records it, else its name."""
    if "images" not in row and len(images) == 1:
        content = row.get("image_sha256")
        return content if content.__class__ is str else images[0].name
    contents = row.get("images_sha256") if "images" in row else None
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
