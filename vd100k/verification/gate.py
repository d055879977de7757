"""The gate of a conversion: what labels and scores say about a row decides whether it is trained on."""

from __future__ import annotations

import contextlib
import shlex
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vd100k.answers.texts import normalize
from vd100k.config.run import Run
from vd100k.config.stages import Convert
from vd100k.console import say
from vd100k.conversion.filters import RejectedRow
from vd100k.errors import DataError
from vd100k.io.jsonl import Entry, Row
from vd100k.labelling import judgements, labels
from vd100k.labelling.judgements import Judgement, Judgements
from vd100k.sources.joins import Lookup
from vd100k.verification import verdicts
from vd100k.verification.calibration import Calibration, calibrate
from vd100k.verification.scores import distribution, refusal, spread_line

RULE = "doubtful"
SHOWN_FOR = 0.05  # the share of wrong rows for which the curve is shown if none is asked for
Lines = Callable[[], Iterable[Entry]]  # reads the rows that are converted
SAMPLES = "samples"  # the value of ``rejected`` for pairs of the answers to one question


@dataclass(frozen=True)
class Known:
    """What is known about the rows of a conversion: judgements of people, and the verdicts of stage=verify.

    ``calibration`` is None if there are no labels, or no threshold is asked for; ``spread`` has the number of rows by
    score, and ``notes`` are sentences about labels.
    """

    judgements: Judgements
    spread: list[tuple[str, int]] = field(default_factory=list)
    calibration: Calibration | None = None
    notes: list[str] = field(default_factory=list)


def labels_path(run: Run, stage: Convert) -> Path:
    """The labels that a conversion uses."""
    return stage.labels.expanduser() if stage.labels else labels.path_beside(run.paths.rows)


def examine(run: Run, stage: Convert, lines: Lines) -> tuple[Known, dict[str, Any]]:
    """What labels and verdicts say about the rows that ``lines`` reads, and the same for ``Summary.certainty``.

    It prints what there is to say.

    Raises:
        DataError: no threshold keeps the promise that is asked for, or the labels cannot be read.
    """
    if not stage.rules.doubtful:
        return Known(Judgements({})), {}
    known = look(run, stage, lines)
    for note in known.notes:
        say(note)
    if known.spread:
        say(f"scores: {spread_line(known.spread)}")
    found = known.calibration
    if found is None:
        if known.spread:
            say(f"No row is labelled, so nothing is promised about the rows that are kept: {commands(run)['label']}")
        return known, {"scores": known.spread}
    promised = stage.max_wrong is not None and found.chosen is not None
    if stage.max_wrong is not None and found.chosen is None:
        raise DataError(refusal(found, run.key, commands(run)))
    return known, {"scores": known.spread, "calibration": found.as_dict() | {"promised": promised}}


def commands(run: Run) -> dict[str, str]:
    """The commands that verify and label the rows."""
    about = f"images={shlex.quote(run.images or 'FOLDER')} dataset={run.dataset} task={run.task.name}"
    return {
        "verify": f"python run.py stage=verify {about} model={run.answers} hardware=HARDWARE",
        "label": f"python run.py stage=label {about} answers={run.answers}",
    }


def look(run: Run, stage: Convert, lines: Lines) -> Known:
    """Read the labels and verdicts of the rows that are converted, and calibrate the threshold if there are labels.

    Raises:
        DataError: the labels cannot be read.
    """
    path, notes = labels_path(run, stage), []
    judged = Judgements({})
    if path.exists():
        read = labels.read(path)
        judged = judgements.of_rows(read, _rows(lines))
        notes = [*read.faults[:3], *judged.notes()]
    scored = verdicts.path(run.paths.rows)
    if not scored.exists():
        return Known(judged, notes=notes)
    scores, labelled = array("d"), []
    stratified = 0
    with Lookup(scored) as found:
        for row in _rows(lines):
            verdict = found.first(row)
            if not verdict or not verdicts.is_about(verdict, row["answer"]):
                continue
            scores.append(verdict["score"])
            judgement = judged.rows.get((row["id"], row["question"]))
            if judgement and judgement.stratum is None:
                labelled.append((verdict["score"], judgement.right))
            stratified += judgement is not None and judgement.stratum is not None
    if stratified:
        notes.append(
            f"{stratified:,} labels are of rows that were drawn by their score: they correct or reject these rows, and "
            "say nothing about the share of wrong rows among all others."
        )
    calibration = calibrate(scores, labelled, stage.max_wrong or SHOWN_FOR) if labelled or stage.max_wrong else None
    return Known(judged, distribution(scores), calibration, notes)


def _rows(lines: Lines) -> Iterator[Row]:
    texts = ("id", "question", "answer")
    rows = (row for _, row in lines() if isinstance(row, dict))
    return (row for row in rows if all(isinstance(row.get(key), str) for key in texts))


class Gate:
    """Corrects and rejects rows by labels, and rejects those with a score below ``threshold`` (None: no row).

    With ``pairs``, a row becomes a preference pair: the best-scored answer to its question, and the worst one.
    """

    def __init__(self, known: Judgements, found: Lookup | None, threshold: float | None, pairs: bool) -> None:
        self._judgements, self._verdicts, self._threshold, self._pairs = known, found, threshold, pairs

    @property
    def rules(self) -> tuple[Callable[[Row], None], Callable[[Row], None]] | tuple[()]:
        """``amend`` and ``check``; nothing if they would leave every row as it is."""
        is_idle = not (self._judgements.rows or self._pairs or self._threshold is not None)
        return () if is_idle else (self.amend, self.check)

    def amend(self, row: Row) -> None:
        """Put the corrected answer of a label in the place of a wrong one, and pair the answer with a worse one.

        Raises:
            RejectedRow: there is no other answer to pair it with.
        """
        judgement = self._judgement(row)
        own = row["answer"]
        if judgement and judgement.corrected:
            row["answer"] = judgement.corrected
        if self._pairs:
            self._pair(row, own, judgement)

    def check(self, row: Row) -> None:
        """Reject a row whose answer is known to be wrong, or is too doubtful.

        Raises:
            RejectedRow: the row is rejected.
        """
        judgement = self._judgement(row)
        if judgement:
            if not judgement.right and not judgement.corrected:
                people = " and ".join(judgement.by)
                said = f"{people} disagree" if judgement.disputed else f"labelled wrong by {people}"
                raise RejectedRow(RULE, said)
            return
        if self._threshold is None:
            return
        verdict = self._verdicts.first(row) if self._verdicts else None
        if verdict is None:
            raise RejectedRow(RULE, "stage=verify has no verdict on it")
        if not verdicts.is_about(verdict, row["answer"]):
            raise RejectedRow(RULE, "the verdict on it is about another answer to the question")
        if verdict["score"] < self._threshold:
            detail = f"score {verdict['score']:.2f}, below {self._threshold:.2f}"
            raise RejectedRow(RULE, f"{detail}: {verdict['reason']}" if verdict.get("reason") else detail)

    def _judgement(self, row: Row) -> Judgement | None:
        return self._judgements.rows.get((row["id"], row["question"]))

    def _pair(self, row: Row, own: str, judgement: Judgement | None) -> None:
        verdict = self._verdicts.first(row) if self._verdicts else None
        known = verdict is not None and verdicts.is_about(verdict, own)
        others = [(one["score"], one["answer"]) for one in verdict["samples"]] if verdict and known else []
        if not others:
            raise RejectedRow("no_rejected", "stage=verify has no other answer to its question")
        assert verdict
        if not judgement:
            row["answer"] = max([(verdict["score"], own), *others], key=lambda one: one[0])[1]
        # An answer that a person corrected is known to be the worse one.
        corrected = judgement is not None and judgement.corrected is not None
        row["rejected"] = own if corrected else min([*others, (verdict["score"], own)], key=lambda one: one[0])[1]
        if normalize(row["rejected"]) == normalize(row["answer"]):
            raise RejectedRow("equal_answers", "all answers to its question are the same")


@contextlib.contextmanager
def opened(run: Run, stage: Convert, known: Known) -> Iterator[Gate]:
    """The gate of a conversion; it rejects rows for their score only if ``max_wrong`` is asked for and can be kept."""
    chosen = known.calibration.chosen if known.calibration and stage.max_wrong is not None else None
    pairs, path = run.rejected == SAMPLES, verdicts.path(run.paths.rows)
    read = (chosen or pairs) and path.exists()
    with Lookup(path) if read else contextlib.nullcontext() as found:
        yield Gate(known.judgements, found, chosen.threshold if chosen else None, pairs)
