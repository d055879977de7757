"""How far answers to the same question agree. Pure functions.

An answer is compared by its facts: the fields of JSON, a letter, or a short answer; a longer text by its words. What
the other answers do not confirm is doubtful, and an answer is as doubtful as its most doubtful fact.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from vd100k.answers import values
from vd100k.answers.texts import letter, words
from vd100k.answers.values import Path, fields
from vd100k.boxes import matching
from vd100k.boxes.box import Box

Comparison = Literal["fields", "letters", "short", "words"]

SHORT = 40  # characters; longer answers say the same in different words
SHOWN = 3  # other values that a reason names
LONGEST = 60  # characters of a value in a reason


class Agreement(NamedTuple):
    """How far other answers confirm one, from 0 to 1, and which of its facts they confirm least."""

    score: float
    reason: str


def comparison(reader: str, answers: Sequence[str]) -> Comparison:
    """How the answers of a task are compared: by its reader, and a text by its length."""
    if reader in ("json", "choice"):
        return "fields" if reader == "json" else "letters"
    return "short" if all(len(answer) <= SHORT for answer in answers) else "words"


def agreement(answer: str, others: Sequence[str], how: Comparison, tolerance: float = 0.0) -> Agreement:
    """How far ``others`` (at least one) confirm an answer; numbers may differ by the share ``tolerance``."""
    if how == "words":
        score = sum(overlap(answer, other) for other in others) / len(others)
        return Agreement(score, f"the texts of {len(others)} other answers share {100 * score:.0f} % of its words")
    if how == "letters":
        answer, others = letter(answer) or answer, [letter(other) or other for other in others]
    if how != "fields":
        return _confirmed("the answer", answer, list(others), tolerance)
    own = _parsed(answer)
    if not own:
        return Agreement(0.0, "it is not JSON")
    parsed = [_parsed(other) for other in others]
    missing = [_extra(own, other) for other in parsed]
    found = [
        _confirmed(values.name(fact), value, [o.get(fact, _NONE) for o in parsed], tolerance)
        for fact, value in own.items()
    ]
    if any(missing):
        name = Counter(fact for facts in missing for fact in facts).most_common(1)[0][0]
        share = sum(name not in facts for facts in missing) / len(missing)
        found.append(
            Agreement(
                share, f"{values.name(name)}: the answer has none, {sum(map(bool, missing))} of {len(others)} others do"
            )
        )
    return min(found, default=Agreement(1.0, ""), key=lambda one: one.score)


def of_boxes(boxes: Sequence[Box], others: Sequence[Sequence[Box]]) -> Agreement:
    """How far other boxes of an image confirm these: the mean IoU of matched boxes."""
    score = sum(matching.agreement(boxes, other).mean_iou for other in others) / len(others)
    return Agreement(score, f"the mean IoU with the boxes of {len(others)} other answers is {score:.2f}")


def overlap(one: str, other: str) -> float:
    """The F1 of the words of two texts, 1 if both have the same ones as often."""
    own, others = Counter(words(one)), Counter(words(other))
    total = own.total() + others.total()
    return 2 * (own & others).total() / total if total else float(one.strip() == other.strip())


class _Nothing:
    """What an answer has in place of a field that it lacks."""


_NONE = _Nothing()


def _confirmed(name: str, value: Any, others: list[Any], tolerance: float) -> Agreement:
    """The share of the other values that equal one, and what they are instead."""
    different = [other for other in others if not _same(value, other, tolerance)]
    share = 1 - len(different) / len(others)
    if not different:
        return Agreement(share, f"{len(others)} of {len(others)} other answers say the same")
    instead = Counter(map(_shown, different)).most_common(SHOWN)
    told = ", ".join(f"{count} × {text}" if len(different) > 1 else text for text, count in instead)
    return Agreement(share, f"{name}: {_shown(value)}, but {len(different)} of {len(others)} others say {told}")


def _same(one: Any, other: Any, tolerance: float) -> bool:
    """Whether two values say the same; what is missing says nothing."""
    return not isinstance(other, _Nothing) and values.same(one, other, tolerance)


def _parsed(answer: str) -> dict[Path, Any]:
    try:
        return fields(json.loads(answer))
    except (ValueError, RecursionError):
        return {}


def _extra(own: dict[Path, Any], other: dict[Path, Any]) -> set[Path]:
    """The facts of another answer that this one lacks."""
    return other.keys() - own.keys()


def _shown(value: Any) -> str:
    if isinstance(value, _Nothing):
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
