"""Answers against labels. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def score(pairs: Iterable[tuple[str | None, Any]]) -> dict[str, float]:
    """Shares in 0..1 over (answer, label) pairs; a missing answer is wrong.

    ``exact_match``: equal as JSON where the label is structured, as stripped text where it is text;
    ``valid_json``: parses; ``field_accuracy``: the label's fields that are right, on average.
    """
    exact = valid = fields = total = 0.0
    for answer, label in pairs:
        parsed = _parsed(answer)
        total += 1
        valid += parsed is not None
        if isinstance(label, str):
            right = answer is not None and answer.strip() == label.strip()
            exact += right
            fields += right
        else:
            exact += parsed == label
            fields += _fields_right(parsed, label)
    return {
        name: round(value / total, 4) if total else 0.0
        for name, value in (("exact_match", exact), ("valid_json", valid), ("field_accuracy", fields))
    }


def _parsed(answer: str | None) -> Any:
    try:
        return json.loads(answer) if answer is not None else None
    except ValueError:
        return None


def _fields_right(parsed: Any, label: Any) -> float:
    if not isinstance(label, dict):
        return float(parsed == label)
    if not isinstance(parsed, dict) or not label:
        return 0.0
    right: int = sum(parsed.get(key) == value for key, value in label.items())
    return right / len(label)
