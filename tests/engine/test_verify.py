"""stage=verify with real models: a judge that is killed and resumes, with the probabilities of its verdicts."""

from __future__ import annotations

import json
import shutil
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

# The teacher can only describe pictures. In plain text it would never find the end of its reply, so the server lets it
# say one word. In JSON it would end the reason, and then write line breaks without end, which the server's grammar
# allows between two fields; so white space is ruled out (a token is a byte).
PLAIN = ["verify.judge.json_reply=false", "+verify.judge.sampling.structured_outputs={choice: [right, wrong]}"]
JSON = [f"+verify.judge.sampling.logit_bias.{ord(space)}=-100" for space in "\t\n\r "]


def overrides(fleet: Fleet, *more: str) -> list[str]:
    images = next(fleet.folder.glob("outputs/images/*/train"))
    return [f"images={images}", "dataset=judged", "task=scene", "model=tiny-teacher", *fleet.overrides, *more]


@pytest.fixture(scope="module")
def answered(fleet: Fleet, launch: Callable[..., Running]) -> Path:
    """The folder of the fleet, where the teacher has answered about all pictures."""
    assert launch(fleet.folder, "stage=generate", *overrides(fleet)).process.wait(KILL_S) == 0
    return fleet.folder


@pytest.mark.parametrize("form", [PLAIN, JSON], ids=["a word", "a reason and a verdict in JSON"])
def test_a_judge_that_is_killed_resumes_and_judges_nothing_twice(
    fleet: Fleet, answered: Path, launch: Callable[..., Running], form: list[str]
) -> None:
    settings = ["verify=judge", f"verify.judge.samples={SAMPLES}", *form]
    judging = overrides(fleet, *settings, "stage.ask.max_in_flight=2")
    replies = answered / DATA / "tiny-teacher.verify/judge-tiny-teacher.jsonl"
    shutil.rmtree(replies.parent, ignore_errors=True)
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
    verdicts = rows(answered / DATA / "tiny-teacher.verdicts.jsonl")
    assert len(verdicts) == PICTURES
    assert all(row["logprobs"] for row in found)
    if form is PLAIN:
        assert {row["answer"] for row in found} <= {"right", "wrong"}
        # The model gives each of the two words a probability.
        assert any(0 < verdict["score"] < 1 for verdict in verdicts)
    else:
        said = [json.loads(row["answer"]) for row in found]
        assert all(list(one) == ["reason", "verdict"] for one in said)
        assert {one["verdict"] for one in said} <= {"right", "wrong"}
        assert {verdict["reason"] for verdict in verdicts} <= {one["reason"] for one in said}


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
