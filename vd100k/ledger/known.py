"""What a ledger knows about questions that were asked before."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vd100k.io.jsonl import Row
from vd100k.io.key_set import KeySet


class Failure(NamedTuple):
    """Why there is no row, in one word, and whether a later run may get one."""

    reason: str
    retryable: bool


class Known(NamedTuple):
    """What the ledger of a whole run had when the run began, for the ledgers of its slices."""

    path: Path
    done: KeySet
    failed: dict[int, Failure]


def failure(row: Row) -> Failure:
    """The failure that a line of a failures file records."""
    return Failure(str(row.get("reason")), row.get("retryable", True))
