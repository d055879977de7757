"""The rows that convert rejects: their records in rejected.jsonl, and what those say about an empty training file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson

from vd100k.conversion.filters import RejectedRow
from vd100k.io.jsonl import Fault, Row, read_rows

NAME = "rejected.jsonl"


def told(training_file: Path) -> str:
    """A sentence about the rows that convert rejected beside a training file; empty if it rejected none."""
    rejected = training_file.parent / NAME
    if not rejected.exists():
        return ""
    reasons = Counter(str(row.get("reason")) for row in read_rows(rejected))
    if not reasons:
        return ""
    why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"{reasons.total()} rows were rejected: {why}. Look at them in {rejected}."


def rejection(number: int, row: Row | Fault, error: RejectedRow) -> bytes:
    """The line of a rejected row in rejected.jsonl."""
    record = {"line": number, "id": None, "reason": error.reason, "detail": as_text(str(error))}
    if isinstance(row, Fault):
        return orjson.dumps(record | {"row": row.raw}, option=orjson.OPT_APPEND_NEWLINE)
    try:
        return orjson.dumps(record | {"id": row.get("id"), "row": row}, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return rejection(number, {key: as_text(value) for key, value in row.items()}, error)


def as_text(value: object) -> str:
    """A value that JSON cannot hold, such as a list that is nested too deeply or a file name that is not UTF-8."""
    try:
        return str(value).encode(errors="backslashreplace").decode()
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deeply"
