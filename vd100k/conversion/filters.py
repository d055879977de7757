"""The rules that reject a row as unfit for training. Pure functions, except for the checks that open images."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from vd100k.answers.texts import normalize
from vd100k.config.stages import Rules
from vd100k.conversion.formats import OPTIONS, turns
from vd100k.conversion.token_lengths import TAG, Size, TokenLengths
from vd100k.images.encode import ImageError, plain
from vd100k.images.find import is_utf8, outside_detail, within
from vd100k.images.groups import names
from vd100k.images.resizing import SizeRule
from vd100k.io import fingerprint
from vd100k.io.jsonl import Row
from vd100k.io.tables import columns_found
from vd100k.similarity.cache import LookCache, Taken, take

REQUIRED = ("id", "question")
# The answer ends with the same text eight times. Repeated digits are allowed: they are often a number.
REPETITION = re.compile(r"((?!\d).{1,40}?)\1{7,}\Z", re.DOTALL)
REFUSAL = re.compile(
    r"\W*(?:i['’]?m sorry|i am sorry|sorry,|i['’]?m (?:unable|not able)|i am (?:unable|not able)|i can(?:['’]t|not)"
    r"|as an ai|抱歉|对不起|很抱歉|非常抱歉|我(?:无法|不能|没有办法)|作为(?:一个|一名)?(?:AI|人工智能))",
    re.IGNORECASE,
)
LONGEST_REFUSAL = 400  # characters; a longer answer that starts like a refusal usually goes on to answer
CACHED = 8192  # images whose checks are remembered, more than the rows that are checked in advance
LEAST_TOKENS = 4  # of an image; smaller ones, such as icons, would mostly be blown up
MAX_ASPECT_RATIO = 200  # Qwen-VL refuses longer and narrower images
SHORTEST_ECHOED_PROMPT = 16  # characters; an answer may start with a shorter prompt by chance


class RejectedRow(ValueError):
    """A row is unfit for training: ``reason`` is one word, the message is the detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


class RowFilter:
    """Applies the rules that are turned on to the rows of a task."""

    def __init__(self, rules: Rules, reader: str, prompt: str, token_lengths: TokenLengths) -> None:
        self._rules = rules
        self._json = rules.not_json and reader == "json"
        self._prompt = prompt if rules.echo and len(prompt) >= SHORTEST_ECHOED_PROMPT else None
        self._token_lengths = token_lengths

    def check(self, row: Row, sizes: list[Size | None]) -> None:
        """Check a row with complete fields; ``sizes`` are those of its images in pixels, None where unknown.

        Raises:
            RejectedRow: the row breaks a rule; the error names the first one.
        """
        rules, rejected, said = self._rules, row.get("rejected", ""), turns(row)
        tags = sum(question.count(TAG) for question, _ in said)
        tagged = TAG in rejected or any(TAG in answer for _, answer in said)
        if rules.image_tags and (tagged or tags not in (0, len(sizes))):
            raise RejectedRow("image_tags", "the number of <image> tags differs from the number of images")
        if rules.truncated and row.get("finish_reason") == "length":
            raise RejectedRow("truncated", "the answer was cut off at max_tokens")
        for question, answer in row["turns"] if "turns" in row else [(row["question"], row["answer"])]:
            self._check_answer(question, answer)
        if rules.too_long:
            *earlier, (question, answer) = said
            tokens = self._token_lengths.excess([*earlier, (question, max(answer, rejected, key=len))], sizes)
            if tokens:
                raise RejectedRow("too_long", f"{tokens} tokens for {self._token_lengths.model}")

    def _check_answer(self, question: str, answer: str) -> None:
        rules = self._rules
        if rules.empty and not answer.strip():
            raise RejectedRow("empty", "no answer")
        # The regular expression is slow and repetition is rare, so first test whether the last characters recur.
        if rules.repetition and answer.count((end := answer.rstrip())[-3:]) > 1 and REPETITION.search(end[-400:]):
            raise RejectedRow("repetition", "the answer ends by repeating the same text")
        if rules.echo and (_echoes(answer, question) or (self._prompt and answer.startswith(self._prompt))):
            raise RejectedRow("echo", "the answer repeats the question")
        if rules.refusal and len(answer) < LONGEST_REFUSAL and REFUSAL.match(answer):
            raise RejectedRow("refusal", answer[:100])
        if self._json:
            try:
                json.loads(answer)
            except (ValueError, RecursionError) as error:
                raise RejectedRow("not_json", str(error)) from None


def _echoes(answer: str, question: str) -> bool:
    similar_length = len(answer) < 2 * len(question) + 8  # a longer answer differs in more than spaces and punctuation
    return similar_length and normalize(answer) == normalize(question)


def complete_fields(row: Row, text_only: bool = False) -> None:
    """Check that the row has the required fields, and turn number ids and structured answers into text, in place.

    Required are ``image`` or ``images`` (unless rows may be ``text_only``), ``id`` and ``question``, and for a
    multiple-choice question all options, each as text that is not empty; and an answer, or boxes.

    Raises:
        RejectedRow: a field is missing, or its type cannot be used.
    """
    if row.get("id").__class__ is int:
        row["id"] = str(row["id"])
    if not names(row) and not (text_only and row.get("image") is None and row.get("images") is None):
        raise _incomplete(row, "image" if row.get("images") is None else "images")
    for key in (*REQUIRED, *OPTIONS) if OPTIONS[0] in row else REQUIRED:
        value = row.get(key)
        if value.__class__ is not str or not value:
            raise _incomplete(row, key)
    if row.get("answer") is None:
        if row.get("boxes") is None:
            raise RejectedRow("empty", "no answer")
        row["answer"] = ""  # it is written from the boxes
    if row.get("rejected", "") is None:
        del row["rejected"]
    for key in ("answer", "rejected"):
        if key in row and row[key].__class__ is not str:
            row[key] = _as_text(row[key])


def _incomplete(row: Row, key: str) -> RejectedRow:
    found = columns_found(name for name, content in row.items() if content is not None)
    return RejectedRow("incomplete", f'"{key}" is missing, empty or not text; {found}')


def _as_text(answer: Any) -> str:
    try:
        return json.dumps(answer, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise RejectedRow("incomplete", f"an answer of type {type(answer).__name__} cannot be used") from None


class TrainingImage(NamedTuple):
    """An image as rows use it: the path to train on, its name in the image folder, its size in pixels if known.

    ``file`` is the image itself, of which ``path`` may be a plain copy. ``look`` is the number of its look, if it was
    taken.
    """

    path: str
    name: str
    size: tuple[int, int] | None
    file: str
    look: int | None = None


class ImageChecker:
    """Checks the images that rows name, and makes plain copies of those that programs decode differently.

    No image outside ``folders`` is used. Copies go to the folder ``copies``. Results are cached, because several
    rows often share an image. ``reads`` says whether the writer will read the images. Images that are decoded leave
    their look in ``looks``, and a plain one that has a look there is not decoded again.
    """

    def __init__(
        self,
        folders: tuple[Path, ...],
        copies: Path,
        rules: Rules,
        size_rule: SizeRule,
        reads: bool,
        looks: LookCache | None = None,
    ) -> None:
        self._folders = [Path(os.path.normpath(folder.absolute())) for folder in folders]
        self._copies, self._rules, self._size_rule, self._reads = copies, rules, size_rule, reads
        self._looks = looks
        self._opens = rules.image_unreadable or rules.image_small
        self.accesses_files = self._opens or rules.image_missing or rules.image_changed or reads
        self.check = functools.lru_cache(maxsize=CACHED)(self._check)
        self._sha256 = functools.lru_cache(maxsize=CACHED)(fingerprint.of_file)

    def check_all(self, row: Row) -> list[TrainingImage]:
        """The image of a row, or the images of its group, which must be those that it was answered about.

        Raises:
            RejectedRow: one of them is outside the folders, or breaks a rule.
        """
        given = names(row)
        images = [self.check(name) for name in given]
        if "images" in row:
            hashes, times = row.get("images_sha256"), row.get("images_mtime_ns")
            lists = isinstance(hashes, list) and isinstance(times, list)
            recorded = list(zip(hashes, times, strict=False)) if lists else []  # type: ignore[arg-type]
        else:
            recorded = [(row.get("image_sha256"), row.get("image_mtime_ns"))]
        for image, facts in zip(images, recorded, strict=False):
            self._check_unchanged(image, *facts)
        return images

    def _check_unchanged(self, image: TrainingImage, answered: object, mtime_ns: object) -> None:
        """Check that the image is the one that the row was answered about; an untouched file is not read.

        The rows of one image may have been answered about different contents, so the result belongs to the row.

        Raises:
            RejectedRow: the row records the hash of another content.
        """
        if not self._rules.image_changed or answered.__class__ is not str:
            return
        with contextlib.suppress(OSError):  # another rule reports a missing file
            file = Path(image.file)
            if file.stat().st_mtime_ns != mtime_ns and self._sha256(file) != answered:
                raise RejectedRow(
                    "image_changed", f"{image.file} has changed since its answer was generated: ask about it again"
                )

    def _check(self, name: str) -> TrainingImage:
        """The image that a row names by its path, absolute or relative to the first folder.

        Raises:
            RejectedRow: the image is outside the folders, or breaks a rule.
        """
        path, folder = self._locate(name)
        short = path.removeprefix(f"{folder}{os.sep}")
        if not self.accesses_files:
            return TrainingImage(path, short, None, path)
        if not _is_file(path):
            if self._rules.image_missing or self._reads:
                raise RejectedRow("image_missing", f"{path}: no such file")
            return TrainingImage(path, short, None, path)
        if not self._opens:
            return TrainingImage(path, short, None, path)
        try:
            used, size, look = self._plain(path)
        except ImageError as error:
            if self._rules.image_unreadable:
                raise RejectedRow("image_unreadable", str(error)) from None
            return TrainingImage(path, short, None, path)
        if self._rules.image_small:
            self._check_size(*size)
        return TrainingImage(str(used), short, size, path, look)

    def _plain(self, path: str) -> tuple[Path, tuple[int, int], int | None]:
        """The path, the size and the look of an image or of its plain copy.

        Raises:
            ImageError: the file is broken, or not an image.
        """
        looks, known = self._looks, None
        if looks is None:
            return *plain(Path(path), self._copies), None
        with contextlib.suppress(OSError):  # the file has just gone
            known = looks.find(path)
        if known is not None and (look := looks.look(known))["plain"]:
            return Path(path), (int(look["size"][0]), int(look["size"][1])), known
        taken: list[Taken] = []
        see = (lambda image, is_plain: taken.append(take(path, image, is_plain))) if known is None else None
        used, size = plain(Path(path), self._copies, see)
        return used, size, looks.add(taken[0]) if taken else known

    def _locate(self, name: str) -> tuple[str, Path]:
        """The path of the image, and the folder that contains it."""
        path = os.path.normpath(name if name[:1] == "/" else f"{self._folders[0]}{os.sep}{name}")
        if not is_utf8(path):
            raise RejectedRow("image_unreadable", f"{path}: the name is not UTF-8, so no training file can hold it")
        for folder in self._folders:
            if path.startswith(f"{folder}{os.sep}") and (not self.accesses_files or within(folder, path)):
                return path, folder
        raise RejectedRow("image_outside", outside_detail(self._folders[0]))

    def _check_size(self, width: int, height: int) -> None:
        side, cap = self._size_rule.token_side, self._size_rule.max_pixels
        if width * height < LEAST_TOKENS * side**2 or min(width, height) < side:
            raise RejectedRow("image_small", f"{width} x {height} pixels")
        if self._size_rule.is_too_narrow(width, height):
            raise RejectedRow(
                "image_small",
                f"{width} x {height} pixels: reduced to model.max_pixels={cap}, its shorter side is below the {side} "
                "pixels of a visual token",
            )
        if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
            raise RejectedRow(
                "image_small", f"{width} x {height} pixels: more than {MAX_ASPECT_RATIO} times longer than wide"
            )


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # the name is too long, or a folder is not accessible
        return False
