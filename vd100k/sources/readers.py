"""Read rows from a source: generated rows, a Roboflow folder, a table, or a Hugging Face data set on disk.

Every reader yields numbered rows ``{"id", "image", "question", "answer", …}``, with ``split`` if the source has
splits. A line without a usable row becomes a ``Fault``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from vd100k.errors import DataError
from vd100k.images.groups import joined, names
from vd100k.io import tables
from vd100k.io.jsonl import Entry, Fault, Finish, Row
from vd100k.sources import blocks
from vd100k.sources.blocks import Block
from vd100k.sources.unpacked import file_with

ANNOTATIONS = "annotations.jsonl"
ROBOFLOW = ("train", "valid", "test")
ROBOFLOW_ANSWER = "suffix"  # its name of the answer
# The usual names of splits, and the side of the converted data set that each becomes.
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
FIRST_ROWS, COLUMNS = 50, 20  # rows examined before a conversion, and columns named in a message
KEYS = ("id", "image", "question", "answer")
BOXES = "boxes"  # a column that may take the place of the answers
MESSAGES = ("messages", "conversations")  # the columns with a conversation instead of a question and an answer


@dataclass(frozen=True)
class Source:
    """A file or folder with rows.

    ``question`` is used for rows that have none, unless it is empty too. Images stored inside the data are
    unpacked into the folder ``unpacked``.
    """

    path: Path
    columns: Mapping[str, str]  # our names -> the names of the source
    question: str
    unpacked: Path
    stage_key: str  # of the stage in the configuration, for messages

    @property
    def image_folder(self) -> Path:
        """The folder that relative image names refer to."""
        return self.path.parent if self.path.is_file() else self.path

    def faults(self) -> Iterator[str]:
        """What keeps all rows from being read, with the remedy: found in the first rows, so that it takes no time."""
        if not self.path.exists():
            yield (
                f"{self.path}: there are no such rows. Generate them first (python run.py stage=generate …), "
                f"or set {self.stage_key}.source=PATH."
            )
        elif self._is_table or self._is_roboflow:
            yield from self._table_faults()
        elif not self._is_hugging_face:
            yield (
                f"{self.path}: not a supported source. Give a .jsonl or .csv file, a Roboflow folder "
                "(train/annotations.jsonl), or a Hugging Face data set saved to disk or in Parquet."
            )

    def _table_faults(self) -> Iterator[str]:
        try:
            numbered = list(islice(self.lines(), FIRST_ROWS))
        except DataError as error:
            yield str(error)
            return
        first = [row for _, row in numbered]
        rows = [row for row in first if not isinstance(row, Fault)]
        if not first:
            yield f"{self.path}: it has no rows."
        elif not rows:
            yield f"{self.path}: none of the first {len(first)} lines is a row. The first one: {first[0].detail}."  # type: ignore[union-attr]
        for key in ("image", "answer") if rows else ():
            if all(row.get(key) is None and not _has_instead(row, key) for row in rows):
                number = next(number for number, row in numbered if row is rows[0])
                filled = {"id": joined(names(rows[0])) or str(number), "question": self.question}  # by ``_complete``
                found = [name for name, value in rows[0].items() if name not in filled or value != filled[name]]
                yield (
                    f"{self.path}: none of the first {len(rows)} rows has “{self.columns[key]}”. Its columns are "
                    f"{', '.join(map(str, found[:COLUMNS]))}: set {self.stage_key}.columns.{key}=NAME to the one with "
                    f"the {key}."
                )

    def has_groups(self) -> bool:
        """Whether one of the first rows has several images."""
        first = [row for _, row in islice(self.lines(), FIRST_ROWS)]
        return any(len(names(row)) > 1 for row in first if not isinstance(row, Fault))

    def lines(self) -> Iterator[Entry]:
        """The rows, in their order.

        Raises:
            DataError: the source is in no supported format, or cannot be read.
        """
        return chain.from_iterable(block.entries() for block in self.blocks())

    def blocks(self) -> Iterator[Block]:
        """The same rows in blocks."""
        if self._is_table:
            return self._table()
        if self._is_roboflow:
            return self._roboflow()
        return blocks.of_entries(self._hugging_face)

    @property
    def _is_table(self) -> bool:
        return self.path.suffix.lower() in tables.SUFFIXES

    @property
    def _is_roboflow(self) -> bool:
        return any((self.path / split / ANNOTATIONS).exists() for split in ROBOFLOW)

    @property
    def _is_saved_to_disk(self) -> bool:
        return (self.path / "dataset_dict.json").exists() or (self.path / "state.json").exists()

    @property
    def _is_hugging_face(self) -> bool:
        return self._is_saved_to_disk or any(file.suffix == ".parquet" for file in self._parquet())

    def _parquet(self) -> list[Path]:
        return [self.path] if self.path.is_file() else sorted(self.path.rglob("*.parquet"))

    def _table(self) -> Iterator[Block]:
        if self.path.suffix.lower() == ".jsonl":
            yield from self._lines(self.path, self._finished)
            return
        answer = self.columns["answer"]
        answers = [answer, ROBOFLOW_ANSWER, BOXES] if answer == "answer" else [answer, BOXES]
        needed = [[self.columns["image"], "images"], answers]
        if not self.question:
            needed.append([self.columns["question"]])
        remedy = f"Set {self.stage_key}.columns.image=NAME (or answer, question) to the column that has it."
        yield from blocks.of_entries(self._csv, needed, remedy)

    def _csv(self, needed: Sequence[Collection[str]], remedy: str) -> Iterator[Entry]:
        for number, row in tables.read(self.path, needed, remedy):
            yield number, row if isinstance(row, Fault) else self._finished(number, row)

    @staticmethod
    def _lines(path: Path, finish: Finish) -> Iterator[Block]:
        try:
            yield from blocks.of_file(path, finish)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}.") from error

    def _finished(self, number: int, row: Row) -> Row:
        """A row of a table with our column names, and with the fields that the table leaves out."""
        if self._is_renamed:
            row = self._renamed(row)
        if row.get("id") is None or "question" not in row or "answer" not in row:
            self._complete(row, number)
        return row

    @cached_property
    def _is_renamed(self) -> bool:
        return any(self.columns[key] != key for key in KEYS)

    def _renamed(self, row: Row) -> Row:
        """The row with our column names; a configured column replaces one that already has our name."""
        keys = {self.columns[key]: key for key in KEYS}
        ours = {key: row[name] for name, key in keys.items() if name in row}
        return {name: value for name, value in row.items() if name not in keys and name not in KEYS} | ours

    def _complete(self, row: Row, number: int) -> None:
        """Fill in the fields that this kind of source leaves out."""
        if ROBOFLOW_ANSWER in row and "answer" not in row:
            row["answer"] = row[ROBOFLOW_ANSWER]
        if row.get("id") is None:
            row["id"] = joined(names(row)) or str(number)
        if "question" not in row and self.question and not has_messages(row):
            row["question"] = self.question

    def _roboflow(self) -> Iterator[Block]:
        for split in ROBOFLOW:
            path = self.path / split / ANNOTATIONS
            if path.exists():
                yield from self._lines(path, partial(self._annotated, split))

    def _annotated(self, split: str, number: int, row: Row) -> Row:
        """A row of a split of a Roboflow folder."""
        row = self._finished(number, row)
        if isinstance(name := row.get("image"), str):
            row["image"] = name if Path(name).is_absolute() else f"{split}/{name}"
            row["id"], row["split"] = f"{split}/{name.removeprefix(f'{self.path / split}/')}", split
        return row

    def _hugging_face(self) -> Iterator[Entry]:
        number = 0
        try:
            for split, rows in self._splits().items():
                for row in rows:
                    number += 1
                    yield number, self._unpack(split, number, dict(row))
        except (OSError, ValueError, TypeError) as error:  # Arrow's errors are among them
            raise DataError(f"{self.path}: cannot be read after row {number}: {error}") from error

    def _splits(self) -> dict[str, Any]:
        """Iterables of rows by split, with the images not decoded; the split is "" if there are none."""
        import datasets

        try:
            if self._is_saved_to_disk:
                loaded = datasets.load_from_disk(str(self.path))
            else:
                named: dict[str, list[str]] = {}
                for file in self._parquet():
                    named.setdefault(_split(file), []).append(str(file))
                loaded = datasets.load_dataset("parquet", data_files=named, streaming=True)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: the data set cannot be read: {error}") from error
        splits = loaded if isinstance(loaded, dict) else {"": loaded}
        column = self.columns["image"]
        for name, rows in splits.items():
            if rows.features and isinstance(rows.features.get(column), datasets.Image):
                splits[name] = rows.cast_column(column, datasets.Image(decode=False))
        return splits

    def _unpack(self, split: str, number: int, row: Row) -> Row:
        """The row with its image in a file."""
        row = self._renamed(row)
        image = row.get("image")
        if split:
            row["split"] = split
        if isinstance(image, dict):
            content, name = image.get("bytes"), image.get("path")
            row["image"] = name
            if isinstance(content, bytes) and content:
                row["image"] = file_with(content, str(name or ""), self.unpacked)
        if row.get("id") is None:
            row["id"] = str(number)
        if not row.get("question") and self.question:
            row["question"] = self.question
        return row


def _has_instead(row: Row, key: str) -> bool:
    """Whether a row has something in the place of its ``image`` or ``answer``: several images, messages, or boxes."""
    return bool(names(row)) if key == "image" else row.get(BOXES) is not None or has_messages(row)


def has_messages(row: Row) -> bool:
    """Whether a row is a conversation, instead of a question and an answer."""
    return any(row.get(name) is not None for name in MESSAGES)


def _split(file: Path) -> str:
    """The split of a Parquet file, from its name or the name of a folder above it."""
    named = [file.stem.split("-")[0], *(parent.name for parent in file.parents)]
    return next((name for name in named if name in SPLITS), "train")
