"""stage=verify and the gate of stage=convert on the command line, with a local server in the place of the models."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chat_server import ChatServer, Reply, chat_server, completion
from tests.conftest import draw_pictures

Call = Callable[..., subprocess.CompletedProcess[str]]
ROWS = 70
WRONG = 10  # of the rows, whose answers nobody repeats


def rows_of(folder: Path, name: str = "m") -> list[dict[str, Any]]:
    path = folder / f"outputs/data/pictures/scene/{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answer(colour: str, count: int = 1) -> str:
    return json.dumps({"count": count, "colour": colour})


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows of the model m about pictures; the answers to the first ``WRONG`` are wrong."""
    folder = draw_pictures(tmp_path / "pictures", ROWS)
    path = tmp_path / "outputs/data/pictures/scene/m.jsonl"
    path.parent.mkdir(parents=True)
    lines = [
        {
            "id": image.name,
            "image": str(image),
            "question": "Describe the picture as JSON.",
            "answer": answer("red" if k < WRONG else "blue"),
            "model": "m",
        }
        for k, image in enumerate(sorted(folder.iterdir()))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(lambda number, body: answer("blue")) as running:
        yield running


def overrides(server: ChatServer, *more: str) -> list[str]:
    """A verification by the model of a server."""
    url = f"hardware.urls=[{server.url}]"
    return ["stage=verify", "task=scene", "images=pictures", "hardware=api", url, *more]


def of_m(server: ChatServer, *more: str) -> list[str]:
    return overrides(server, "model=hf", "model.name=m", "model.served_name=m", "model.path=null", *more)


def label(rows: Path, right: Callable[[int], bool], count: int = ROWS, **more: Any) -> None:
    """Labels of the first rows, as stage=label writes them."""
    given = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()][:count]
    lines = (
        {"id": row["id"], "question": row["question"], "right": right(k), "by": "ana", **more}
        for k, row in enumerate(given)
    )
    rows.with_name("m.labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


CONVERT = ["stage=convert", "task=scene", "images=pictures", "answers=m"]


def test_answers_that_are_not_repeated_get_a_low_score_and_the_gate_rejects_them(
    vd100k: Call, rows: Path, server: ChatServer, tmp_path: Path
) -> None:
    done = vd100k(*of_m(server))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "because the task asks at 0" in done.stdout
    assert f"scores: 1.00: {ROWS - WRONG} rows, 0.00: {WRONG}" in done.stdout
    assert "next    python run.py stage=label task=scene" in done.stdout
    verdicts = rows_of(tmp_path, "m.verdicts")
    assert [verdict["score"] for verdict in verdicts] == [0.0] * WRONG + [1.0] * (ROWS - WRONG)
    assert verdicts[0]["reason"] == 'colour: "red", but 3 of 3 others say 3 × "blue"'
    assert [sample["answer"] for sample in verdicts[0]["samples"]] == [answer("blue")] * 3
    assert {request["temperature"] for request in server.requests[1:]} == {0.7}

    label(rows, lambda k: k >= WRONG)
    done = vd100k(*CONVERT, "stage.max_wrong=0.05")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{ROWS - WRONG} of {ROWS} rows kept; 0.0 % of them wrong (at most 4.9 % with 95 %" in done.stdout
    rejected = rows_of(tmp_path, "m.swift/rejected")
    assert [row["reason"] for row in rejected] == ["doubtful"] * WRONG
    page = next(tmp_path.glob("outputs/runs/*/*-convert/report.html")).read_text(encoding="utf-8")
    assert "What each threshold keeps" in page
    assert "1.00 (chosen)" in page


def test_a_verification_resumes_and_asks_nothing_twice(
    vd100k: Call, rows: Path, server: ChatServer, tmp_path: Path
) -> None:
    done = vd100k(*of_m(server, "limit=10", "verify.agreement.samples=2"))
    assert done.returncode == 0, done.stdout + done.stderr
    first = len(server.requests)
    assert first == 1 + 2 * 10  # and the one that checks the server
    done = vd100k(*of_m(server, "verify.agreement.samples=2"))
    assert "20 answers exist already" in done.stdout
    assert len(server.requests) == 2 * ROWS + 2
    done = vd100k(*of_m(server, "verify.agreement.samples=2"))
    assert len(server.requests) == 2 * ROWS + 2
    assert len(rows_of(tmp_path, "m.verdicts")) == ROWS


def test_machines_share_a_verification(vd100k: Call, rows: Path, server: ChatServer, tmp_path: Path) -> None:
    for part in ("1/2", "2/2"):
        done = vd100k(*of_m(server, f"shard={part}", "verify.agreement.samples=1"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "No verdicts are written yet" in done.stdout
        assert ", 0 failed" in done.stdout or "no answer" not in done.stdout, done.stdout
    sent = len(server.requests)
    assert vd100k(*of_m(server, "verify.agreement.samples=1")).returncode == 0
    assert len(server.requests) == sent
    assert len(rows_of(tmp_path, "m.verdicts")) == ROWS


def test_answers_of_another_model_are_compared_without_asking(vd100k: Call, rows: Path, tmp_path: Path) -> None:
    other = [row | {"answer": answer("blue"), "model": "other"} for row in rows_of(tmp_path)]
    rows.with_name("other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other), encoding="utf-8")
    against = ["verify.agreement.samples=0", "verify.agreement.against=[other]"]
    done = vd100k("stage=verify", "task=scene", "images=pictures", "answers=m", *against)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"scores: 1.00: {ROWS - WRONG} rows, 0.00: {WRONG}" in done.stdout
    done = vd100k(
        "stage=verify", "task=scene", "images=pictures", "answers=m", *against[:1], *[f"{against[1][:-1]},no]"]
    )
    assert done.returncode == 1
    assert "verify.agreement.against contains no, but there are no rows of it" in done.stderr


def verdict(word: str, probability: float | None = None) -> Reply:
    """A judge's reply, with the probability of its verdict."""
    reply = json.loads(completion(json.dumps({"reason": "looks so", "verdict": word})))
    if probability is not None:
        other = {"right": "wrong", "wrong": "right"}[word]
        top = [
            {"token": word, "logprob": math.log(probability)},
            {"token": other, "logprob": math.log(1 - probability)},
        ]
        content = [{"token": token, "logprob": 0.0} for token in ('{"reason": "looks so", ', '"verdict": "')]
        content += [
            {"token": word, "logprob": math.log(probability), "top_logprobs": top},
            {"token": '"}', "logprob": 0},
        ]
        reply["choices"][0]["logprobs"] = {"content": content}
    return 200, {}, json.dumps(reply)


def judge(server: ChatServer, *more: str) -> list[str]:
    """A verification by the judge of a server."""
    return [
        *("stage=verify", "verify=judge", "task=scene", "images=pictures", "answers=m", "model@judge.model=gpt-4o"),
        *("hardware@judge.hardware=api", f"judge.hardware.urls=[{server.url}]", "judge.model.served_name=m"),
        *("judge.model.api_key_env=null", *more),
    ]


def test_a_judge_scores_by_the_probability_of_right(vd100k: Call, rows: Path, tmp_path: Path) -> None:
    def script(number: int, body: dict[str, Any]) -> Reply:
        asked = body["messages"][-1]["content"][-1]["text"]
        return verdict("wrong", 0.9) if '"red"' in asked else verdict("right", 0.8)

    with chat_server(script) as server:
        done = vd100k(*judge(server))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"scores: 0.80: {ROWS - WRONG} rows, 0.10: {WRONG}" in done.stdout
    first = rows_of(tmp_path, "m.verdicts")[0]
    assert (first["reason"], first["by"]) == ("looks so", "judge gpt-4o")
    asked = server.requests[-1]
    assert (asked["logprobs"], asked["top_logprobs"]) == (True, 5)
    assert asked["response_format"]["json_schema"]["schema"]["properties"]["verdict"] == {"enum": ["right", "wrong"]}
    assert asked["messages"][0]["content"].startswith("You are a strict examiner")


def test_a_judge_that_always_says_right_is_named_as_such(vd100k: Call, rows: Path) -> None:
    with chat_server(lambda number, body: verdict("right")) as server:
        done = vd100k(*judge(server))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"The judge said “right” of all {ROWS} answers." in done.stdout


@pytest.mark.parametrize("reply", ["I'm sorry, I cannot judge people.", '{"opinion": "good"}'])
def test_a_judge_that_gives_no_verdict_ends_the_run_with_its_words(vd100k: Call, rows: Path, reply: str) -> None:
    with chat_server(lambda number, body: reply) as server:
        done = vd100k(*judge(server, "stage.ask.max_retries=0"))
    assert done.returncode == 1
    assert "failed, more than stage.ask.max_failure_rate=0.3 allows" in done.stderr
    assert "not_as_asked" in done.stderr
    assert not rows.with_name("m.verdicts.jsonl").exists()


def test_labels_that_show_the_kept_rows_to_be_wrong_end_the_conversion(
    vd100k: Call, rows: Path, server: ChatServer
) -> None:
    """The model repeats its error: every second row is wrong, and the scores do not see it."""
    assert vd100k(*of_m(server)).returncode == 0
    label(rows, lambda k: k % 2 == 0)
    done = vd100k(*CONVERT, "stage.max_wrong=0.05")
    assert done.returncode == 1
    assert (
        "stage.max_wrong=0.05 cannot be kept by any threshold: of 60 labelled rows with a score of 1.00" in done.stderr
    )
    assert "The scores do not see these errors" in done.stderr
    assert not rows.with_name("m.swift").joinpath("train.jsonl").exists()


@pytest.mark.parametrize(
    ("labelled", "right", "message"),
    [
        (0, True, "needs labels: at least 59 of the rows that are kept"),
        (20, True, "needs more labels: of 10 labelled rows with a score of 1.00 or more, 0 are wrong"),
        (ROWS, False, "All labelled rows are wrong, so nothing can be kept."),
    ],
)
def test_a_promise_without_enough_labels_says_how_many_it_needs(
    vd100k: Call, rows: Path, server: ChatServer, labelled: int, right: bool, message: str
) -> None:
    assert vd100k(*of_m(server, "verify.agreement.samples=1")).returncode == 0
    if labelled:
        label(rows, lambda k: right and k >= WRONG, labelled)
    done = vd100k(*CONVERT, "stage.max_wrong=0.05")
    assert done.returncode == 1
    assert message in done.stderr, done.stderr
    assert "stage=label" in done.stderr or "stage=verify" in done.stderr
    assert not rows.with_name("m.swift").joinpath("train.jsonl").exists()


def test_without_a_promise_the_scores_are_shown_and_labels_correct_and_reject_rows(
    vd100k: Call, rows: Path, server: ChatServer, tmp_path: Path
) -> None:
    assert vd100k(*of_m(server, "verify.agreement.samples=1")).returncode == 0
    done = vd100k(*CONVERT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No row is labelled, so nothing is promised" in done.stdout
    label(rows, lambda k: False, 2)
    path = rows.with_name("m.labels.jsonl")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines[0]["corrected"] = answer("green")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = vd100k(*CONVERT, "stage.split_dataset_ratio=0")
    assert done.returncode == 0, done.stdout + done.stderr
    [rejected] = rows_of(tmp_path, "m.swift/rejected")
    assert (rejected["id"], rejected["detail"]) == ("01.png", "labelled wrong by ana")
    train = rows_of(tmp_path, "m.swift/train")
    assert train[0]["messages"][-1]["content"] == answer("green")
    assert len(train) == ROWS - 1


def test_the_answers_to_one_question_make_preference_pairs(
    vd100k: Call, rows: Path, server: ChatServer, tmp_path: Path
) -> None:
    assert vd100k(*of_m(server)).returncode == 0
    done = vd100k(*CONVERT, "rejected=samples", "stage.split_dataset_ratio=0")
    assert done.returncode == 0, done.stdout + done.stderr
    pairs = rows_of(tmp_path, "m-samples.swift/train")
    assert len(pairs) == WRONG
    assert {pair["messages"][-1]["content"] for pair in pairs} == {answer("blue")}
    assert {pair["rejected_response"] for pair in pairs} == {answer("red")}
    assert {row["reason"] for row in rows_of(tmp_path, "m-samples.swift/rejected")} == {"equal_answers"}


def test_a_preview_shows_replies_and_writes_no_verdicts(
    vd100k: Call, rows: Path, server: ChatServer, tmp_path: Path
) -> None:
    done = vd100k(*of_m(server, "preview=2"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(server.requests) == 1 + 2 * 3
    assert "preview.html" in done.stdout
    assert not rows.with_name("m.verdicts.jsonl").exists()


def test_a_dry_run_says_what_would_be_asked(vd100k: Call, rows: Path, server: ChatServer) -> None:
    done = vd100k(*of_m(server, "dry_run=true"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agreement: ask m about each row of outputs/data/pictures/scene/m.jsonl 3 times" in done.stdout
    assert server.requests == []


def test_a_later_turn_is_asked_again_with_the_turns_before_it(
    vd100k: Call, rows: Path, server: ChatServer, tmp_path: Path
) -> None:
    first = rows_of(tmp_path)[0]
    turns = [
        first | {"question": "What is it?", "answer": "A cat.", "turn": 1},
        first | {"question": "Which colour?", "answer": "Red.", "turn": 2},
        first | {"id": "text", "image": None},
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in turns), encoding="utf-8")
    done = vd100k(*of_m(server, "verify.agreement.samples=1"))
    assert done.returncode == 0, done.stdout + done.stderr
    asked = {request["messages"][-1]["content"][-1]["text"] for request in server.requests[1:]}
    assert asked == {"What is it?", "What is it?\nA cat.\n\nWhich colour?"}
