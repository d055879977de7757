"""Labels: what people say about the answers of rows, written by stage=label or made elsewhere.

A label is a line of JSONL, or of CSV with the same columns: ``{"id", "question", "answer_sha256", "right", "corrected",
"by", "when", "stratum"}``. ``stage=label`` appends such lines to ``<model>.labels.jsonl`` beside the rows. A file made
elsewhere needs ``id`` (or ``image``) and one of ``right``, ``correct``, ``label`` and ``corrected``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vd100k.io import tables
from vd100k.io.jsonl import Fault, Row

IDS = ("id", "image")
VERDICTS = ("right", "correct", "label")
MEANING: dict[str, bool | None] = {
    **dict.fromkeys(("true", "1", "yes", "y", "right", "correct", "对", "正确", "是"), True),
    **dict.fromkeys(("false", "0", "no", "n", "wrong", "incorrect", "错", "错误", "否"), False),
    **dict.fromkeys(("", "none", "null", "skip", "skipped"), None),
}
FORM = (
    "A label needs the columns id (or image) and right (or correct, or label: true or false), or corrected; "
    "question and by are optional."
)

Identity = tuple[str, str, str]


@dataclass(frozen=True)
class Label:
    """What a person says about one answer.

    ``question`` and ``answer_sha256`` are None in a file made elsewhere that does not have them. ``right`` is None if
    the person skipped the answer, or only gave a correct one: ``corrected``. ``stratum`` names the part of the scores
    that the row was drawn from; None if it was drawn from all rows alike.
    """

    id: str
    question: str | None
    answer_sha256: str | None
    right: bool | None
    corrected: str | None = None
    by: str = ""
    when: str = ""
    stratum: str | None = None


@dataclass(frozen=True)
class Labels:
    """The labels of a file in their order, and a sentence about each line that is none."""

    given: tuple[Label, ...]
    faults: tuple[str, ...]


def path_beside(rows: Path) -> Path:
    """The file of labels that belongs to a file of rows."""
    return rows.with_name(f"{rows.stem}.labels.jsonl")


def answer_sha256(answer: object) -> str:
    """The hash of an answer, in hex: a label, or a verdict, is about this answer and no other."""
    return hashlib.sha256(answer_text(answer).encode(errors="surrogatepass")).hexdigest()


def identity(row: Row) -> Identity:
    """The id, the question and the hash of the answer of a row: what a label or a verdict is about."""
    return str(row["id"]), str(row["question"]), answer_sha256(row["answer"])


def answer_text(answer: object) -> str:
    """An answer as text; one that is not text already as JSON with sorted keys."""
    try:
        return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, sort_keys=True)
    except RecursionError:  # a conversion rejects such a row
        return "(nested too deeply)"


def read(path: Path) -> Labels:
    """The labels of a .jsonl or .csv file.

    Raises:
        DataError: the file cannot be read, or the header of a .csv file lacks a column.
    """
    given, faults = [], []
    for number, row in tables.read(path, [IDS, (*VERDICTS, "corrected")], FORM):
        found = row if isinstance(row, Fault) else _label(row)
        if isinstance(found, Label):
            given.append(found)
        else:
            faults.append(f"{path}, line {number} is skipped: {found.detail}")
    return Labels(tuple(given), tuple(faults))


def _label(row: Row) -> Label | Fault:
    id, verdict = _first(row, IDS), _first(row, VERDICTS)
    if not isinstance(id, str | int) or isinstance(id, bool) or id == "":
        return _fault("it has no id of an image")
    if not any(name in row for name in (*VERDICTS, "corrected")):
        return _fault(f"it has none of {', '.join(VERDICTS)} and corrected")
    word = answer_text(verdict).strip().lower()
    if word not in MEANING:
        return _fault(f"{word[:40]!r} is neither true nor false")
    return Label(
        str(id),
        _text(row.get("question")),
        _text(row.get("answer_sha256")),
        MEANING[word],
        _text(row.get("corrected")),
        _text(row.get("by")) or "",
        _text(row.get("when")) or "",
        _text(row.get("stratum")),
    )


def _first(row: Row, names: tuple[str, ...]) -> Any:
    """The value of the first of these columns that has one."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _text(value: object) -> str | None:
    return None if value in (None, "") else answer_text(value)


def _fault(detail: str) -> Fault:
    return Fault("bad_label", detail, "")
