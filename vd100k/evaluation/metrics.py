"""How close answers are to their labels. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

# The figures in words.
TITLES = {
    "exact_match": "exact match",
    "valid_json": "valid JSON",
    "field_accuracy": "correct fields",
    "mean_iou": "mean IoU",
    "iou_over_half": "IoU over 0.5",
}
# A JSON pointer as a tuple: the keys and indexes that lead to a value.
Path = tuple[str | int, ...]


class Score(NamedTuple):
    """How close one answer is to its label, or many are on average; each figure is in 0..1.

    ``exact_match``: equal as JSON if the label is structured, equal as stripped text if it is text;
    ``valid_json``: the answer parses; ``field_accuracy``: the share of the label's fields, including
    nested ones, that have the correct value.

    For labels that are boxes, ``mean_iou`` and ``iou_over_half`` are those of ``boxes.matching.Agreement``; they are
    None for other labels. A field is a box then, which is correct if it is found with an intersection over union (IoU)
    of at least 0.5, and an answer is valid if its boxes can be read.
    """

    exact_match: float
    valid_json: float
    field_accuracy: float
    mean_iou: float | None = None
    iou_over_half: float | None = None

    def figures(self) -> dict[str, float]:
        """The figures that this kind of label has, by name."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def score(answer: str | None, label: Any) -> Score:
    """One answer compared with its label; a missing answer (None) is wrong."""
    try:
        parsed = json.loads(answer or "")
        valid = True
    except (ValueError, RecursionError):
        parsed, valid = None, False
    if isinstance(label, str):
        correct = answer is not None and answer.strip() == label.strip()
        return Score(correct, valid, correct)
    return Score(valid and _equal(parsed, label), valid, _field_accuracy(parsed, label) if valid else 0.0)


def mean(scores: Sequence[Score]) -> Score:
    """The average score; zero if there are no scores."""
    if not scores:
        return Score(0, 0, 0)
    return Score._make(_mean(column) for column in zip(*scores, strict=True))


def _mean(column: Sequence[float | None]) -> float | None:
    values = [value for value in column if value is not None]
    return round(sum(values) / len(values), 4) if values else None


def _equal(one: Any, other: Any) -> bool:
    """Equality as JSON: the order of keys does not count, and true differs from 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _field_accuracy(parsed: Any, label: Any) -> float:
    expected, found = fields(label), fields(parsed)
    correct = sum(path in found and _equal(found[path], value) for path, value in expected.items())
    return correct / len(expected)


def fields(content: Any, path: Path = ()) -> dict[Path, Any]:
    """The values at the leaves of nested objects and lists, by their path."""
    if not isinstance(content, dict | list) or not content:
        return {path: content}
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    return {leaf: value for key, inner in entries for leaf, value in fields(inner, (*path, key)).items()}
