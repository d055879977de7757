"""Why a training file has no rows, from the rows that were rejected beside it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from vd100k.io.jsonl import read_rows

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
