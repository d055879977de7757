"""A model's reply -> the fields of a row, repaired where nothing is lost by it. Pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vd100k.answers.texts import letter
from vd100k.boxes.box import Box, BoxError

LETTERS = "ABCD"
# A label that chat models put before a question although the prompt asks for the question alone.
PREFACE = re.compile(r"^\s*(?:\*\*)?(?:question|问题)(?:\*\*)?\s*[:：]\s*(?:\*\*)?", re.IGNORECASE)
QUOTES = ('""', "''", "“”", "‘’", "「」")


class ParseError(ValueError):
    """The reply is not what the task asked for; the message says why."""


class Choice(BaseModel):
    """A question with four different options and the letter of the correct one."""

    model_config = ConfigDict(str_strip_whitespace=True, coerce_numbers_to_str=True, defer_build=True)

    question: str = Field(min_length=1)
    choiceA: str = Field(min_length=1)
    choiceB: str = Field(min_length=1)
    choiceC: str = Field(min_length=1)
    choiceD: str = Field(min_length=1)
    answer: Literal["A", "B", "C", "D"]

    @model_validator(mode="before")
    @classmethod
    def _letter(cls, found: object) -> object:
        """``B``, ``b.``, ``(B)``, ``choiceB``, ``B. a cat`` and the option's own text all mean B."""
        if not isinstance(found, dict):
            return found
        said = str(found.get("answer")).strip()
        same = [letter for letter in LETTERS if str(found.get(f"choice{letter}")).strip() == said]
        return found | {"answer": same[0] if same else letter(said) or said}

    @model_validator(mode="after")
    def _different(self) -> Choice:
        if len({getattr(self, f"choice{letter}") for letter in LETTERS}) < len(LETTERS):
            raise ValueError("two options are the same")
        return self


# A function of an answer that returns its boxes in pixels of the image; it raises BoxError.
Locate = Callable[[str], list[Box]]


def read(
    reader: str,
    reply: str,
    complete: bool = True,
    schema: dict[str, Any] | None = None,
    locate: Locate | None = None,
) -> dict[str, Any]:
    """The row's fields, parsed from a reply by the task's ``reader``; JSON is validated against ``schema``.

    ``locate`` reads the boxes of an answer, for the reader that is called boxes.

    A reply that is not ``complete`` (cut off at max_tokens) is never repaired, because closing its
    brackets would make half an answer look complete.

    Raises:
        ParseError: the reply is not what was asked for.
    """
    if locate is not None:
        return _boxes(reply, complete, locate)
    fields = READERS[reader](reply, complete)
    if schema is not None:
        _validate(fields["answer"], schema)
    return fields if reader == "text" else {key: _without_surrogates(value) for key, value in fields.items()}


def _without_surrogates(value: str) -> str:
    """JSON can spell halves of a character, which no file can hold."""
    return value if value.isascii() else value.encode(errors="replace").decode()


def _validate(answer: str, schema: dict[str, Any]) -> None:
    import jsonschema  # slow to import, and most tasks have no schema

    try:
        fault = jsonschema.exceptions.best_match(
            jsonschema.validators.validator_for(schema)(schema).iter_errors(json.loads(answer))
        )
    except RecursionError:
        raise ParseError("nested too deeply to be compared with task.schema") from None
    if fault:
        raise ParseError(f"{fault.json_path}: {fault.message[:200]}")


def _text(reply: str, complete: bool) -> dict[str, Any]:
    return {"answer": reply}


def _question(reply: str, complete: bool) -> dict[str, Any]:
    question = PREFACE.sub("", reply).strip().strip("*").strip()
    if len(question) > 1 and question[0] + question[-1] in QUOTES:
        question = question[1:-1].strip()
    if not complete:
        raise ParseError("cut off at max_tokens")
    if not question:
        raise ParseError("it contains no question")
    return {"question": question, "answer": ""}


def _json(reply: str, complete: bool) -> dict[str, Any]:
    """The reply itself if it is JSON, else the JSON that it could be repaired to."""
    try:
        json.loads(reply)
    except (ValueError, RecursionError):
        return {"answer": json.dumps(_structure(reply, complete), ensure_ascii=False)}
    return {"answer": reply}


def _choice(reply: str, complete: bool) -> dict[str, Any]:
    found = _structure(reply, complete)
    try:
        return Choice.model_validate(found[0] if isinstance(found, list) else found).model_dump()
    except ValidationError as error:
        fault = error.errors()[0]
        raise ParseError(f"{'.'.join(map(str, fault['loc'])) or 'choice'}: {fault['msg']}") from error


def _boxes(reply: str, complete: bool, locate: Locate) -> dict[str, Any]:
    if not complete:
        raise ParseError("cut off at max_tokens")
    try:
        return {"answer": reply, "boxes": [box.as_row() for box in locate(reply)]}
    except BoxError as error:
        raise ParseError(str(error)) from None


def _structure(reply: str, complete: bool) -> dict[str, Any] | list[Any]:
    import json_repair  # slow to import, and most tasks read text

    try:
        found = json_repair.loads(reply) if complete else json.loads(reply)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"not JSON{'' if complete else ', and cut off at max_tokens'}: {error}") from error
    if not isinstance(found, dict | list) or not found:
        raise ParseError("it contains no JSON")
    return found


READERS: dict[str, Callable[[str, bool], dict[str, Any]]] = {
    "text": _text,
    "question": _question,
    "json": _json,
    "choice": _choice,
}
