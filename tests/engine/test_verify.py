"""stage=verify with real models: a judge that is killed and resumes, with the probabilities of its verdicts."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.conftest import Fleet, Running, rows, summary

pytestmark = pytest.mark.engine

PICTURES = 48  # that the fleet has drawn
SAMPLES = 3
KILLED_AFTER = 20  # replies
DATA = "outputs/data/judged/scene"
KILL_S = 120


def overrides(fleet: Fleet, *more: str) -> list[str]:
    images = next(fleet.folder.glob("outputs/images/*/train"))
    return [f"images={images}", "dataset=judged", "task=scene", "model=tiny-teacher", *fleet.overrides, *more]


@pytest.fixture(scope="module")
def answered(fleet: Fleet, launch: Callable[..., Running]) -> Path:
    """The folder of the fleet, where the teacher has answered about all pictures."""
    assert launch(fleet.folder, "stage=generate", *overrides(fleet)).process.wait(KILL_S) == 0
    return fleet.folder


def test_a_judge_that_is_killed_resumes_and_judges_nothing_twice(
    fleet: Fleet, answered: Path, launch: Callable[..., Running]
) -> None:
    # The teacher can only describe pictures: of a reason it would never find the end, so the server lets it say a word.
    choice = "+verify.judge.sampling.structured_outputs={choice: [right, wrong]}"
    settings = ["verify=judge", "verify.judge.json_reply=false", choice, f"verify.judge.samples={SAMPLES}"]
    judging = overrides(fleet, *settings, "stage.ask.max_in_flight=2")
    replies = answered / DATA / "tiny-teacher.verify/judge-tiny-teacher.jsonl"
    first = launch(answered, "stage=verify", *judging)
    until = time.monotonic() + KILL_S
    while not replies.exists() or replies.read_bytes().count(b"\n") < KILLED_AFTER:
        assert time.monotonic() < until, "".join(first.lines)
        assert first.process.poll() is None, "".join(first.lines)
        time.sleep(0.05)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    kept = replies.read_bytes().count(b"\n")

    second = launch(answered, "stage=verify", *judging)
    assert second.process.wait(KILL_S) == 0, "".join(second.lines)
    assert any("tiny-teacher judges its own answers" in line for line in second.lines)
    counts = summary(answered)["counts"]
    assert counts["reused"] == kept
    assert counts["requests"] == PICTURES * SAMPLES - kept + len(fleet.replicas)  # one request checks each endpoint
    found = rows(replies)
    assert len({(row["id"], row["question"]) for row in found}) == len(found) == PICTURES * SAMPLES
    assert {row["answer"] for row in found} <= {"right", "wrong"}
    # The model gives each of the two words a probability.
    scores = [row["score"] for row in rows(answered / DATA / "tiny-teacher.verdicts.jsonl")]
    assert len(scores) == PICTURES
    assert any(0 < score < 1 for score in scores)


def test_a_teacher_that_is_asked_again_confirms_most_of_its_answers(
    fleet: Fleet, answered: Path, launch: Callable[..., Running]
) -> None:
    done = launch(answered, "stage=verify", *overrides(fleet))
    assert done.process.wait(KILL_S) == 0, "".join(done.lines)
    verdicts = rows(answered / DATA / "tiny-teacher.verdicts.jsonl")
    assert [len(verdict["samples"]) for verdict in verdicts] == [SAMPLES] * PICTURES
    assert sum(verdict["score"] == 1 for verdict in verdicts) > 0.8 * PICTURES
    assert "Most doubtful rows, worst first" in max(answered.glob("outputs/runs/*/*-verify/report.html")).read_text(
        encoding="utf-8"
    )
