"""The values of an answer in JSON, and when two of them say the same."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from vd100k.answers.texts import normalize

# A JSON pointer as a tuple: the keys and indexes that lead to a value.
Path = tuple[str | int, ...]

NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14}|[1-9]\d{0,2}(?:,\d{3}){1,4})(?:\.\d+)?")
# A day with its year: 2024-03-01, 1.3.2024, March 1, 2024, 2024年3月1日, and perhaps the time.
DATE = re.compile(r"(?=.*\d{4})(?:\d+|[^\W\d_]{1,10})(?:[-/., ]+(?:\d+|[^\W\d_]{1,10})){2}(?:[T ,]+\d.*)?", re.ASCII)
LONGEST_DATE = 40  # characters


def fields(content: Any, path: Path = ()) -> dict[Path, Any]:
    """The values at the leaves of nested objects and lists, by their path."""
    if not isinstance(content, dict | list) or not content:
        return {path: content}
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    return {leaf: value for key, inner in entries for leaf, value in fields(inner, (*path, key)).items()}


def name(path: Path) -> str:
    """The name of a field, such as ``objects.0.colour``; that of a value without fields is "the answer"."""
    return ".".join(map(str, path)) or "the answer"


def equal(one: Any, other: Any) -> bool:
    """Equality as JSON: the order of keys does not count, and true differs from 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def same(one: Any, other: Any, tolerance: float = 0.0) -> bool:
    """Whether two values say the same.

    Texts are compared without case, spaces and outer punctuation; numbers, also those written as text, may differ by
    the share ``tolerance``; a date equals the same day written in another way.
    """
    number, counterpart = as_number(one), as_number(other)
    if number is not None and counterpart is not None:
        return math.isclose(number, counterpart, rel_tol=tolerance, abs_tol=0.0)
    if not isinstance(one, str) or not isinstance(other, str):
        return equal(one, other)
    if normalize(one) == normalize(other):
        return True
    dates = readings(one)
    return bool(dates) and dates == readings(other)


def as_number(value: Any) -> float | None:
    """A number, also one that is written as text, such as "1,250.5"; a date or a code such as 007 is not one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        return float(text.replace(",", "")) if NUMBER.fullmatch(text) else None
    return float(value) if isinstance(value, int | float) and abs(value) < 2**53 else None


def readings(text: str) -> set[str]:
    """The dates that a text can be read as, in ISO form; none if it is no date with a day, a month and a year.

    3/4/2024 is a day in March or in April: it equals another date that can be read in the same two ways, and no other.
    With dots, 3.4.2024, the day comes first.
    """
    plain = re.sub(r"[年月]", "-", text.strip()).replace("日", " ").strip()
    if len(plain) > LONGEST_DATE or not DATE.fullmatch(plain):
        return set()
    from dateutil import parser  # slow to import

    year_first = bool(re.match(r"\d{4}", plain))
    orders = (False,) if year_first else (True,) if "." in plain else (False, True)
    found = set()
    for day_first in orders:
        try:
            found.add(parser.parse(plain, dayfirst=day_first, yearfirst=year_first).isoformat())
        except (ValueError, OverflowError):
            continue
    return found
