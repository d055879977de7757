"""Answers against labels. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple


class Score(NamedTuple):
    """How right one answer is, or many are on average; each in 0..1.

    ``exact_match``: equal as JSON where the label is structured, as stripped text where it is text;
    ``valid_json``: parses; ``field_accuracy``: the share of the label's fields, nested ones each, that are right.
    """

    exact_match: float
    valid_json: float
    field_accuracy: float


def judge(answer: str | None, label: Any) -> Score:
    """One answer against its label; None, no answer, is wrong."""
    try:
        parsed = json.loads(answer or "")
        valid = True
    except (ValueError, RecursionError):
        parsed, valid = None, False
    if isinstance(label, str):
        right = answer is not None and answer.strip() == label.strip()
        return Score(right, valid, right)
    return Score(valid and _same(parsed, label), valid, _fields_right(parsed, label) if valid else 0.0)


def mean(scores: Sequence[Score]) -> Score:
    """The average, zero of none."""
    return (
        Score(*(round(sum(column) / len(scores), 4) for column in zip(*scores, strict=True)))
        if scores
        else Score(0, 0, 0)
    )


def _same(one: Any, other: Any) -> bool:
    """As JSON: keys in any order, and true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _fields_right(parsed: Any, label: Any) -> float:
    wanted, found = _fields(label), _fields(parsed)
    right = sum(path in found and _same(found[path], value) for path, value in wanted.items())
    return right / len(wanted)


def _fields(content: Any, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], Any]:
    """The values at the ends of nested objects and lists, by the way there."""
    if not isinstance(content, dict | list) or not content:
        return {path: content}
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    return {way: value for key, inner in entries for way, value in _fields(inner, (*path, key)).items()}
