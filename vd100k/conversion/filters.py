"""The rules that reject a row as unfit for training, except for those about images. Pure functions."""

from __future__ import annotations

import json
import re
import string
from typing import Any

from vd100k.answers.texts import normalize
from vd100k.config.stages import Rules
from vd100k.conversion.formats import OPTIONS, asked, turns
from vd100k.conversion.token_lengths import TAG, Size, TokenLengths, bytes_of
from vd100k.images.groups import names
from vd100k.io.jsonl import Row
from vd100k.io.tables import columns_found

REQUIRED = ("id", "question")
ALL_OPTIONS = (*REQUIRED, *OPTIONS)  # of multiple choice
# The answer ends with the same text eight times. Repeated digits are allowed: they are often a number.
REPETITION = re.compile(r"((?!\d).{1,40}?)\1{7,}\Z", re.DOTALL)
LONGEST_REPEATED = 40  # characters
REFUSAL = re.compile(
    r"\W*(?:i['’]?m sorry|i am sorry|sorry,|i['’]?m (?:unable|not able)|i am (?:unable|not able)|i can(?:['’]t|not)"
    r"|as an ai|抱歉|对不起|很抱歉|非常抱歉|我(?:无法|不能|没有办法)|作为(?:一个|一名)?(?:AI|人工智能))",
    re.IGNORECASE,
)
# What no refusal begins with: a character of a word that is none of the first ones above, in any case.
NO_REFUSAL = frozenset(string.ascii_letters + string.digits) - set("iIsSaA")
LONGEST_REFUSAL = 400  # characters; a longer answer that starts like a refusal usually goes on to answer
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
        self.prompt = prompt if rules.echo and len(prompt) >= SHORTEST_ECHOED_PROMPT else None
        self._token_lengths = token_lengths

    def check(self, row: Row, sizes: list[Size | None]) -> None:
        """Check a row with complete fields; ``sizes`` are those of its images in pixels, None where unknown.

        Raises:
            RejectedRow: the row breaks a rule; the error names the first one.
        """
        rules, rejected, said = self._rules, row.get("rejected", ""), asked(row)
        # Tags that are missing will be before the first question.
        tags, tagged, length = 0, TAG in rejected, len(TAG) * len(sizes) + bytes_of(rejected)
        for question, answer in said:
            tags += question.count(TAG)
            tagged = tagged or TAG in answer
            length += bytes_of(question) + bytes_of(answer)
        if rules.image_tags and (tagged or tags not in (0, len(sizes))):
            raise RejectedRow("image_tags", "the number of <image> tags differs from the number of images")
        if rules.truncated and row.get("finish_reason") == "length":
            raise RejectedRow("truncated", "the answer was cut off at max_tokens")
        for question, answer in row["turns"] if "turns" in row else [(row["question"], row["answer"])]:
            self._check_answer(question, answer)
        if rules.too_long and not self._token_lengths.fits(length, len(said), sizes):
            *earlier, (question, answer) = turns(row)
            tokens = self._token_lengths.excess([*earlier, (question, max(answer, rejected, key=len))], sizes)
            if tokens:
                raise RejectedRow("too_long", f"{tokens} tokens for {self._token_lengths.model}")

    def _check_answer(self, question: str, answer: str) -> None:
        rules = self._rules
        if rules.empty and (not answer or answer.isspace()):
            raise RejectedRow("empty", "no answer")
        end = answer.rstrip()
        # The regular expression is slow and repetition is rare, so first test whether the last characters recur.
        if rules.repetition and end[-3:] in end[-3 - LONGEST_REPEATED : -1] and REPETITION.search(end[-400:]):
            raise RejectedRow("repetition", "the answer ends by repeating the same text")
        if rules.echo and (_echoes(answer, question) or (self.prompt and answer.startswith(self.prompt))):
            raise RejectedRow("echo", "the answer repeats the question")
        if rules.refusal and answer[:1] not in NO_REFUSAL and len(answer) < LONGEST_REFUSAL and REFUSAL.match(answer):
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
    for key in ALL_OPTIONS if OPTIONS[0] in row else REQUIRED:
        value = row.get(key)
        if value.__class__ is not str or not value:
            raise _incomplete(row, key)
    if (answer := row.get("answer")).__class__ is not str:
        if answer is None and row.get("boxes") is None:
            raise RejectedRow("empty", "no answer")
        row["answer"] = "" if answer is None else _as_text(answer)  # it will be written from the boxes
    if "rejected" in row and (rejected := row["rejected"]).__class__ is not str:
        if rejected is None:
            del row["rejected"]
        else:
            row["rejected"] = _as_text(rejected)


def _incomplete(row: Row, key: str) -> RejectedRow:
    found = columns_found(name for name, content in row.items() if content is not None)
    return RejectedRow("incomplete", f'"{key}" is missing, empty or not text; {found}')


def _as_text(answer: Any) -> str:
    try:
        return json.dumps(answer, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise RejectedRow("incomplete", f"an answer of type {type(answer).__name__} cannot be used") from None
