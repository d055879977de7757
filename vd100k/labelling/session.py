"""One person's way through a sample: which row comes next, and what the labels say so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vd100k.evaluation.certainty import share
from vd100k.evaluation.intervals import of_mean
from vd100k.io.jsonl import Row
from vd100k.labelling.labels import Label, answer_text
from vd100k.labelling.ledger import Ledger
from vd100k.labelling.sample import Drawn

KEPT = ("image", "images", "answer")  # fields of a row that a labelled row has


@dataclass(frozen=True)
class Tally:
    """Numbers of rows: in the sample, right, wrong (of these with a correction), and skipped."""

    rows: int
    right: int
    wrong: int
    corrected: int
    skipped: int

    @property
    def labelled(self) -> int:
        return self.right + self.wrong + self.skipped

    @property
    def estimate(self) -> str:
        """The share of wrong answers in all rows, with its 95 % interval: "8 of 37 wrong: 22 % (11 to 38)"."""
        judged = self.right + self.wrong
        if not judged:
            return "no answer labelled right or wrong yet"
        interval = of_mean([1.0] * self.wrong + [0.0] * self.right)
        return f"{self.wrong:,} of {judged:,} wrong: {share(self.wrong / judged, interval, digits=0)}"


def tally(labels: Iterable[Label | None]) -> Tally:
    """Counts the labels of a sample; None is a row without one."""
    given = list(labels)
    said = [label for label in given if label]
    wrong = [label for label in said if label.right is False]
    right = sum(label.right is True for label in said)
    corrected = sum(label.corrected is not None for label in wrong)
    return Tally(len(given), right, len(wrong), corrected, len(said) - right - len(wrong))


@dataclass(frozen=True)
class Session:
    """The sample and the ledger of one person. Rows are named by their number in the sample, from 0."""

    sample: list[Drawn]
    ledger: Ledger

    @property
    def tally(self) -> Tally:
        return tally(map(self.ledger.of, self.sample))

    def next_open(self, after: int = -1) -> int | None:
        """The next row without a label, from the beginning again after the last one; None if all have one."""
        order = [*range(after + 1, len(self.sample)), *range(after + 1)]
        return next((number for number in order if self.ledger.of(self.sample[number]) is None), None)

    def labelled_rows(self) -> Iterator[Row]:
        """The labels of the sample, each with its row's images and answer."""
        for drawn in self.sample:
            if label := self.ledger.of(drawn):
                yield vars(label) | {name: drawn.row[name] for name in KEPT if name in drawn.row}

    def label(self, number: int, right: bool | None, edited: str) -> None:
        """Record a label; ``edited`` is the answer as it stands in the field for corrections.

        Raises:
            ValueError: the answer is said to be right, and yet it is corrected.
            DataError: the disk is full.
        """
        drawn = self.sample[number]
        answer = answer_text(drawn.row["answer"])
        # A browser writes the ends of lines in its own way.
        same = edited.split() == answer.split() or not edited.strip()
        if right and not same:
            raise ValueError("The answer is corrected below: press w to save it as wrong, or e and undo the change.")
        self.ledger.append(drawn, right, edited.strip() if right is False and not same else None)
