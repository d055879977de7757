"""Checks of the configuration of stage=verify. Each problem comes with its remedy."""

from __future__ import annotations

from collections.abc import Iterator

from vd100k.config.model_defaults import UNCHOSEN
from vd100k.config.run import Run
from vd100k.config.stages import Verify


def check_verify(run: Run, stage: Verify, teacher: set[str]) -> Iterator[str]:
    """Every impossible combination of a run that verifies answers."""
    agreement, judge = run.verify.agreement, run.verify.judge
    if not agreement and not judge:
        yield "nothing verifies the answers: set verify=agreement, verify=judge, or both: 'verify=[agreement,judge]'"
    if run.answers == UNCHOSEN:
        yield "no answers are chosen: set answers=MODEL, whose answers are verified"
    if run.task.reader == "question":
        yield f"task={run.task.name} writes questions, which have no answers to verify: verify those of task=answer"
    if agreement and not agreement.samples and not agreement.against:
        yield (
            "verify.agreement.samples=0 compares the answers with nothing: set it to 3, or name models that have "
            "answered: 'verify.agreement.against=[MODEL]'"
        )
    if agreement and run.answers in agreement.against:
        yield f"verify.agreement.against contains {run.answers}, whose answers are verified: name other models"
    if judge and judge.right.casefold() == judge.wrong.casefold():
        yield f"verify.judge.right and verify.judge.wrong are both {judge.right}: choose two words"
