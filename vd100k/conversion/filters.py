"""What makes a row unfit to train on. Pure but for looking at images."""

from __future__ import annotations

import functools
import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

from vd100k.config.stages import Rules
from vd100k.conversion.formats import OPTIONS, TAG, question
from vd100k.conversion.token_lengths import TokenLengths
from vd100k.images.encode import ImageError, plain
from vd100k.images.find import outside_detail, within
from vd100k.images.transform import FACTOR
from vd100k.io.jsonl import Row

NEEDED = ("image", "id", "question")
REPEATED = re.compile(r"((?!\d).{1,40}?)\1{7,}\Z", re.DOTALL)  # the same eight times, to the end; digits may be
REFUSAL = re.compile(
    r"\W*(?:i['’]?m sorry|i am sorry|sorry,|i['’]?m (?:unable|not able)|i am (?:unable|not able)|i can(?:['’]t|not)"
    r"|as an ai|抱歉|对不起|很抱歉|非常抱歉|我(?:无法|不能|没有办法)|作为(?:一个|一名)?(?:AI|人工智能))",
    re.IGNORECASE,
)
REFUSALS_ARE_SHORT = 400  # characters: a long answer that begins so goes on to say something
MARKS = " \t\r\n.,;:!?…。，；：！？、\"'“”‘’()（）"
LONGEST_SHAPE = 200  # Qwen-VL refuses pictures this many times longer than wide
ECHOED = 16  # characters of a prompt that nobody begins an answer with by chance


class RejectedRow(ValueError):
    """This row cannot be trained on: the reason in a word, and what there is to say of it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


class RowFilter:
    """The rules that are on, for a task's rows; ``fits`` raises ``RejectedRow`` with the first that a row breaks."""

    def __init__(self, rules: Rules, reader: str, prompt: str, lengths: TokenLengths) -> None:
        self._rules = rules
        self._json = rules.not_json and reader == "json"
        self._prompt = prompt if rules.echo and len(prompt) >= ECHOED else None
        self._lengths = lengths

    def check(self, row: Row, size: tuple[int, int] | None) -> None:
        """Raise RejectedRow if the row, whose image has that size in pixels, is not one to train on."""
        rules, answer, rejected = self._rules, row["answer"], row.get("rejected", "")
        asked = row["question"] if OPTIONS[0] not in row else question(row)
        if rules.image_tags and (TAG in answer or TAG in rejected or asked.count(TAG) > 1):
            raise RejectedRow("image_tags", "another number of <image> tags than of images")
        if rules.truncated and row.get("finish_reason") == "length":
            raise RejectedRow("truncated", "cut off at max_tokens")
        self._says_something(row["question"], answer)
        if rules.too_long:
            tokens = self._lengths.excess(asked, max(answer, rejected, key=len), size)
            if tokens:
                raise RejectedRow("too_long", f"{tokens} tokens for {self._lengths.model}")

    def _says_something(self, question: str, answer: str) -> None:
        """Raise RejectedRow if an answer is none."""
        rules = self._rules
        if rules.empty and not answer.strip():
            raise RejectedRow("empty", "no answer")
        # The pattern is slow and the trouble rare: look for the last characters elsewhere first.
        if rules.repetition and answer.count((end := answer.rstrip())[-3:]) > 1 and REPEATED.search(end[-400:]):
            raise RejectedRow("repetition", "the same over and over")
        if rules.echo and (_echoes(answer, question) or (self._prompt and answer.startswith(self._prompt))):
            raise RejectedRow("echo", "the question given back")
        if rules.refusal and len(answer) < REFUSALS_ARE_SHORT and REFUSAL.match(answer):
            raise RejectedRow("refusal", answer[:100])
        if self._json:
            try:
                json.loads(answer)
            except (ValueError, RecursionError) as error:
                raise RejectedRow("not_json", str(error)) from None


def normalize(text: str) -> str:
    """The text without what makes no difference: case, spaces, full width, marks around it."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return "".join(text.casefold().split()).strip(MARKS)


def _echoes(answer: str, question: str) -> bool:
    alike = len(answer) < 2 * len(question) + 8  # or there is more in it than spaces and marks
    return alike and normalize(answer) == normalize(question)


def complete_fields(row: Row) -> None:
    """Raise RejectedRow unless the row has text for image, id, question and all of a choice's options, and an answer.

    Numbers as ids and structured answers are common, and become text.
    """
    if row.get("id").__class__ is int:
        row["id"] = str(row["id"])
    for key in (*NEEDED, *OPTIONS) if OPTIONS[0] in row else NEEDED:
        value = row.get(key)
        if value.__class__ is not str or not value:
            raise RejectedRow("incomplete", f'no "{key}"')
    if row.get("answer") is None:
        raise RejectedRow("empty", "no answer")
    for key in ("answer", "rejected"):
        if key in row and row[key].__class__ is not str:
            row[key] = _as_text(row[key])


def _as_text(answer: Any) -> str:
    try:
        return json.dumps(answer, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise RejectedRow("incomplete", f"an answer of type {type(answer).__name__}") from None


class TrainingImage(NamedTuple):
    """An image of rows: the path to train on, its name in the image folder, its size in pixels if it was opened."""

    path: str
    name: str
    size: tuple[int, int] | None


class ImageChecker:
    """The images of rows, each looked at once in a while, none outside ``folders``; odd ones are copied plain.

    ``reads`` says that whoever writes the rows will read the images.
    """

    def __init__(self, folders: tuple[Path, ...], copies: Path, rules: Rules, min_pixels: int, reads: bool) -> None:
        self._folders = [Path(os.path.normpath(folder.absolute())) for folder in folders]
        self._copies, self._rules, self._min_pixels, self._reads = copies, rules, min_pixels, reads
        self._opens = rules.image_unreadable or rules.image_small
        self.looks = self._opens or rules.image_missing or reads
        self.at = functools.lru_cache(maxsize=8192)(self._at)

    def _at(self, name: str) -> TrainingImage:
        """The image that a row names.

        Raises:
            RejectedRow: outside the folder, or what the rules on images say.
        """
        path, folder = self._inside(name)
        short = path.removeprefix(f"{folder}{os.sep}")
        if not self.looks:
            return TrainingImage(path, short, None)
        if not _is_file(path):
            if self._rules.image_missing or self._reads:
                raise RejectedRow("image_missing", f"{path}: no such file")
            return TrainingImage(path, short, None)
        if not self._opens:
            return TrainingImage(path, short, None)
        try:
            used, size = plain(Path(path), self._copies)
        except ImageError as error:
            if self._rules.image_unreadable:
                raise RejectedRow("image_unreadable", str(error)) from None
            return TrainingImage(path, short, None)
        if self._rules.image_small:
            self._large_enough(*size)
        return TrainingImage(str(used), short, size)

    def _inside(self, name: str) -> tuple[str, Path]:
        """The path of the image (a relative name is in the first folder) and the folder it lies in."""
        path = os.path.normpath(name if name[:1] == "/" else f"{self._folders[0]}{os.sep}{name}")
        for folder in self._folders:
            if path.startswith(f"{folder}{os.sep}") and (not self.looks or within(folder, path)):
                return path, folder
        raise RejectedRow("image_outside", outside_detail(self._folders[0]))

    def _large_enough(self, width: int, height: int) -> None:
        if width * height < self._min_pixels or min(width, height) < FACTOR:
            raise RejectedRow("image_small", f"{width} x {height} pixels")
        if max(width, height) > LONGEST_SHAPE * min(width, height):
            raise RejectedRow(
                "image_small", f"{width} x {height} pixels: more than {LONGEST_SHAPE} times longer than wide"
            )


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # a name too long, a folder that may not be entered
        return False
