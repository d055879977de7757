"""The verdict on each row: a score from 0 to 1, and why it is not higher. Kept in ``<model>.verdicts.jsonl``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, Protocol

from vd100k.boxes.box import from_row
from vd100k.config.run import Judge, Run
from vd100k.io import jsonl
from vd100k.io.jsonl import Row
from vd100k.labelling.labels import answer_sha256
from vd100k.sources.joins import Lookup
from vd100k.verification.agreement import Agreement as Compared
from vd100k.verification.agreement import agreement, comparison, of_boxes
from vd100k.verification.asking import Prompt, numbered, verified_rows
from vd100k.verification.judging import read

FEW = 20  # verdicts that may well be all the same

Sample = dict[str, Any]  # an answer to the same question, and how far the other ones confirm it


class Scored(NamedTuple):
    """What one way of verification says about a row; ``samples`` are the other answers that it knows."""

    score: float
    reason: str
    by: str
    samples: list[Sample]


class Scorer(Protocol):
    """One way of verification."""

    def score(self, row: Row) -> Scored | None:
        """What it says about a row; None if it has no reply about it."""

    def notes(self) -> list[str]:
        """Sentences about what is odd about its replies, once all rows are scored."""


class Agreement:
    """Compares each answer with the replies to the same question in ``replies``, and with rows of other models."""

    def __init__(self, run: Run, asked: tuple[str, Lookup, Prompt, int] | None, against: dict[str, Lookup]) -> None:
        self._reader, self._settings = run.task.reader, run.verify.agreement
        self._asked, self._against = asked, against

    def score(self, row: Row) -> Scored | None:
        others = self._others(row)
        if not others:
            return None
        found = self._compared([row, *(other for _, other in others)])
        models = Counter(name for name, _ in others)
        by = ", ".join(f"{name} × {count}" for name, count in models.items())
        samples = [
            {"answer": other["answer"], "score": round(one.score, 4), "by": name}
            for (name, other), one in zip(others, found[1:], strict=True)
        ]
        return Scored(found[0].score, found[0].reason, by, samples)

    def notes(self) -> list[str]:
        return []

    def _compared(self, rows: list[Row]) -> list[Compared]:
        """How far the other rows confirm each one."""
        assert self._settings
        if self._reader == "boxes":
            boxes = [from_row(row.get("boxes", [])) for row in rows]
            return [of_boxes(own, boxes[:k] + boxes[k + 1 :]) for k, own in enumerate(boxes)]
        pool = [row["answer"] for row in rows]
        how, tolerance = comparison(self._reader, pool), self._settings.tolerance
        return [agreement(own, pool[:k] + pool[k + 1 :], how, tolerance) for k, own in enumerate(pool)]

    def _others(self, row: Row) -> list[tuple[str, Row]]:
        """The other rows about the question of a row, each with the model that answered."""
        found: list[tuple[str, Row]] = []
        if self._asked:
            model, replies, prompt, samples = self._asked
            text = prompt(row)
            for number in range(samples) if text is not None else ():
                if reply := replies.first({"id": row["id"], "question": numbered(str(text), number)}):
                    found.append((model, reply))
        rows = ((name, lookup.first(row)) for name, lookup in self._against.items())
        return [*found, *((name, other) for name, other in rows if other)]


class Judged:
    """Reads a judge's replies; ``said`` counts its verdicts, and ``unread`` the replies without one."""

    def __init__(self, judge: Judge, model: str, replies: Lookup, prompt: Prompt) -> None:
        self._judge, self._model, self._replies, self._prompt = judge, model, replies, prompt
        self.said: Counter[str] = Counter()
        self.unread = 0

    def notes(self) -> list[str]:
        """A sentence about replies without a verdict, and one about verdicts that are all the same."""
        notes = []
        if self.unread:
            notes.append(f"{self.unread:,} replies of the judge have no verdict, and count as none.")
        if len(self.said) == 1 and self.said.total() >= FEW:
            [(word, count)] = self.said.items()
            notes.append(
                f"The judge said “{word}” of all {count:,} answers. Such verdicts tell rows apart only by their "
                "probability, if the server sends one: look at a few, and choose another judge or prompt."
            )
        return notes

    def score(self, row: Row) -> Scored | None:
        text, found = self._prompt(row), []
        for number in range(self._judge.samples):
            reply = self._replies.first({"id": row["id"], "question": numbered(str(text), number)})
            verdict = read(reply, self._judge) if reply else None
            self.unread += reply is not None and verdict is None
            if verdict:
                self.said[self._judge.right if verdict.right else self._judge.wrong] += 1
                found.append(verdict)
        if not found:
            return None
        worst = min(found, key=lambda one: one.score)
        return Scored(fmean(one.score for one in found), worst.reason, f"judge {self._model}", [])


@dataclass
class Written:
    """What ``write`` wrote: verdicts on ``rows`` rows with these ``scores``, and none on ``without`` rows."""

    rows: int = 0
    without: int = 0
    scores: list[float] = field(default_factory=list)


def path(rows: Path) -> Path:
    """The verdicts on the rows in a file."""
    return rows.with_name(f"{rows.stem}.verdicts.jsonl")


def write(run: Run, scorers: list[Scorer]) -> Written:
    """Write a verdict on each row that any of the scorers can score: the mean of their scores, and the worst reason."""
    written = Written()

    def verdicts() -> Iterator[Row]:
        for row in verified_rows(run):
            found = [scored for scorer in scorers if (scored := scorer.score(row))]
            if not found:
                written.without += 1
                continue
            verdict = _verdict(row, found)
            written.rows += 1
            written.scores.append(verdict["score"])
            yield verdict

    jsonl.write(path(run.paths.rows), verdicts())
    return written


def _verdict(row: Row, found: list[Scored]) -> Row:
    return {
        "id": row["id"],
        "question": row["question"],
        "answer_sha256": answer_sha256(row["answer"]),
        "score": round(fmean(one.score for one in found), 4),
        "reason": min(found, key=lambda one: one.score).reason,
        "by": "; ".join(one.by for one in found),
        "samples": [sample for one in found for sample in one.samples],
    }


def is_about(verdict: Row, answer: str) -> bool:
    """Whether a verdict is about this answer, and not about one that the row had before."""
    return bool(verdict.get("answer_sha256") == answer_sha256(answer))
