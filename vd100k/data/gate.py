"""What makes a row unfit to train on. Pure but for looking at images."""

from __future__ import annotations

import functools
import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

from vd100k.config import Rules
from vd100k.data.formats import OPTIONS, TAG
from vd100k.data.lengths import LONGEST_SHAPE, Lengths
from vd100k.images import FACTOR, ImageError, outside, plain, within

Row = dict[str, Any]
NEEDED = ("id", "image", "question")
REPEATED = re.compile(r"(.{1,40}?)\1{7,}\s*\Z", re.DOTALL)  # the same eight times, to the end
REFUSAL = re.compile(
    r"\W*(?:i['’]?m sorry|i am sorry|sorry,|i['’]?m (?:unable|not able)|i am (?:unable|not able)|i can(?:['’]t|not)"
    r"|as an ai|抱歉|对不起|很抱歉|非常抱歉|我(?:无法|不能|没有办法)|作为(?:一个|一名)?(?:AI|人工智能))",
    re.IGNORECASE,
)
REFUSALS_ARE_SHORT = 400  # characters: a long answer that begins so goes on to say something
MARKS = " \t\r\n.,;:!?…。，；：！？、\"'“”‘’()（）"
ECHOED = 16  # characters of a prompt that nobody begins an answer with by chance


class Unfit(ValueError):
    """This row cannot be trained on: the reason in a word, and what there is to say of it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


class Gate:
    """The rules that are on, for a task's rows; ``fits`` raises ``Unfit`` with the first that a row breaks."""

    def __init__(self, rules: Rules, reader: str, prompt: str, lengths: Lengths) -> None:
        self._rules = rules
        self._json = rules.not_json and reader == "json"
        self._prompt = prompt if rules.echo and len(prompt) >= ECHOED else None
        self._lengths = lengths

    def fits(self, row: Row, size: tuple[int, int] | None) -> None:
        """Raise Unfit if the row, whose image has that size in pixels, is not one to train on."""
        rules, question, answer = self._rules, row["question"], row["answer"]
        if rules.image_tags and (TAG in answer or question.count(TAG) > 1):
            raise Unfit("image_tags", "another number of <image> tags than of images")
        if rules.truncated and row.get("finish_reason") == "length":
            raise Unfit("truncated", "cut off at max_tokens")
        self.says_something(row, answer)
        if rules.too_long:
            tokens = self._lengths.excess(question, answer, size)
            if tokens:
                raise Unfit("too_long", f"{tokens} tokens")

    def says_something(self, row: Row, answer: str) -> None:
        """Raise Unfit if an answer is none."""
        rules = self._rules
        if rules.empty and not answer.strip():
            raise Unfit("empty", "no answer")
        # The pattern is slow and the trouble rare: look for the last characters elsewhere first.
        if rules.repetition and answer.count(answer[-3:]) > 2 and REPEATED.search(answer[-400:]):
            raise Unfit("repetition", "the same over and over")
        if rules.echo and (_echoes(answer, row["question"]) or (self._prompt and answer.startswith(self._prompt))):
            raise Unfit("echo", "the question given back")
        if rules.refusal and len(answer) < REFUSALS_ARE_SHORT and REFUSAL.match(answer):
            raise Unfit("refusal", answer[:100])
        if self._json:
            try:
                json.loads(answer)
            except ValueError as error:
                raise Unfit("not_json", str(error)) from None


def normal(text: str) -> str:
    """The text without what makes no difference: case, spaces, full width, marks around it."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return "".join(text.casefold().split()).strip(MARKS)


def _echoes(answer: str, question: str) -> bool:
    alike = len(answer) < 2 * len(question) + 8  # or there is more in it than spaces and marks
    return alike and normal(answer) == normal(question)


def complete(row: Row) -> None:
    """Raise Unfit unless the row has text for id, image, question and all of a choice's options, and an answer.

    Numbers as ids and structured answers are common, and become text.
    """
    if row.get("id").__class__ is int:
        row["id"] = str(row["id"])
    for key in (*NEEDED, *OPTIONS) if OPTIONS[0] in row else NEEDED:
        value = row.get(key)
        if value.__class__ is not str or not value:
            raise Unfit("incomplete", f'no "{key}"')
    answer = row.get("answer")
    if answer.__class__ is not str:
        if answer is None:
            raise Unfit("empty", "no answer")
        row["answer"] = json.dumps(answer, ensure_ascii=False)


class Pictures:
    """The images of rows, each looked at once in a while, none outside ``folder``; odd ones are copied plain."""

    def __init__(self, folder: Path, copies: Path, rules: Rules, min_pixels: int) -> None:
        self._folder, self._copies, self._rules, self._min_pixels = folder, copies, rules, min_pixels
        self._prefix = f"{folder.absolute()}{os.sep}"
        self.opens = rules.image_unreadable or rules.image_small
        self.looks = self.opens or rules.image_missing
        self.at = functools.lru_cache(maxsize=8192)(self._at)

    def _at(self, name: str) -> tuple[str, tuple[int, int] | None]:
        """The path to train on, and its size in pixels if it was opened.

        Raises:
            Unfit: outside the folder, or what the rules on images say.
        """
        if not self.looks:
            return self._named(name), None
        path = within(self._folder, name)
        if path is None:
            raise Unfit("image_outside", outside(self._folder))
        if not path.is_file():
            if self._rules.image_missing:
                raise Unfit("image_missing", f"{path}: no such file")
            return str(path), None
        if not self.opens:
            return str(path), None
        try:
            used, size = plain(path, self._copies)
        except ImageError as error:
            if self._rules.image_unreadable:
                raise Unfit("image_unreadable", str(error)) from None
            return str(path), None
        if self._rules.image_small:
            self._large_enough(*size)
        return str(used), size

    def _named(self, name: str) -> str:
        """The path without looking at it: inside the folder by its name."""
        path = name if name[:1] == "/" else self._prefix + name
        if "/." in path or "//" in path:
            path = os.path.normpath(path)
        if not path.startswith(self._prefix):
            raise Unfit("image_outside", outside(self._folder))
        return path

    def _large_enough(self, width: int, height: int) -> None:
        if width * height < self._min_pixels or min(width, height) < FACTOR:
            raise Unfit("image_small", f"{width} x {height} pixels")
        if max(width, height) > LONGEST_SHAPE * min(width, height):
            raise Unfit("image_small", f"{width} x {height} pixels: more than {LONGEST_SHAPE} times longer than wide")
