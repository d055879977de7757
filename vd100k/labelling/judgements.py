"""What the labels of all people together say about each row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vd100k.io.jsonl import Row
from vd100k.labelling.labels import Label, Labels, answer_sha256, answer_text

Key = tuple[str, str]  # the id and the question of a row
# Why a label says nothing about any row, in the words of a message.
OUTCOMES = {
    "skipped": "skipped",
    "changed": "about an answer that has changed since",
    "elsewhere": "about a row that does not exist",
    "ambiguous": "about an image with several questions, of which the label names none",
}


@dataclass(frozen=True)
class Judgement:
    """Whether an answer is right.

    ``disputed``: people disagree. Such an answer counts as wrong, without a correction, so a promise about the share of
    wrong rows holds whoever is right.
    """

    right: bool
    corrected: str | None
    by: tuple[str, ...]
    disputed: bool
    stratum: str | None


@dataclass(frozen=True)
class Judgements:
    """The judgements by row, and the number of labels without one by the names of ``OUTCOMES``."""

    rows: dict[Key, Judgement]
    unused: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        """A sentence about the labels that were not used, and one about the rows that people disagree on."""
        counts = [f"{self.unused[name]:,} {text}" for name, text in OUTCOMES.items() if self.unused[name]]
        notes = [f"Labels that are not used: {', '.join(counts)}."] if counts else []
        disputed = sum(judgement.disputed for judgement in self.rows.values())
        if disputed:
            notes.append(f"People disagree about {disputed:,} of the labelled rows, which count as wrong.")
        return notes


def of_rows(labels: Labels, rows: Iterable[Row]) -> Judgements:
    """The judgements of rows with ``id``, ``question`` and ``answer``; only labelled rows are kept in memory.

    Of the labels of one person about one answer, the last one counts. A label whose ``answer_sha256`` is that of
    another answer is not used; one without it is about whatever the answer is now.
    """
    by_id: dict[str, list[Label]] = defaultdict(list)
    for label in labels.given:
        by_id[label.id].append(label)
    questions: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.get("id") in by_id:
            questions[row["id"]].append(row)
    judged = Judgements({})
    for id, about in by_id.items():
        judged.rows.update(_of_image(about, questions[id], judged.unused))
    return judged


def _of_image(labels: list[Label], rows: list[Row], unused: Counter[str]) -> Iterator[tuple[Key, Judgement]]:
    """The judgements of the rows of one image; counts the labels that are not used."""
    asked = {str(row.get("question")) for row in rows}
    for label in labels:
        if not asked or label.question not in (None, *asked):
            unused["elsewhere"] += 1
        elif label.question is None and len(asked) > 1:
            unused["ambiguous"] += 1
    for row in rows:
        question = str(row.get("question"))
        about = [
            label for label in labels if label.question == question or (label.question is None and len(asked) == 1)
        ]
        if judgement := _judge(about, row.get("answer"), unused):
            yield (row["id"], question), judgement


def _judge(labels: list[Label], answer: object, unused: Counter[str]) -> Judgement | None:
    """What all people say about one answer; None if nobody says anything."""
    digest, text = answer_sha256(answer), answer_text(answer).strip()
    current = {label.by: label for label in labels if label.answer_sha256 in (None, digest)}
    unused["changed"] += len({label.by for label in labels} - current.keys())
    said = {by: right for by, label in current.items() if (right := _right(label, text)) is not None}
    unused["skipped"] += len(current) - len(said)
    if not said:
        return None
    corrections = {(label.corrected or "").strip() for by, label in current.items() if said.get(by) is False} - {text}
    disputed = len(set(said.values())) > 1
    corrected = corrections.pop() if len(corrections) == 1 and not disputed else None
    return Judgement(all(said.values()), corrected or None, tuple(said), disputed, list(current.values())[-1].stratum)


def _right(label: Label, answer: str) -> bool | None:
    """Whether the label says that the answer is right; if it only gives the correct one, whether they are equal."""
    if label.right is None and label.corrected is not None:
        return label.corrected.strip() == answer
    return label.right
