"""A judge compares two answers in both orders: a favoured place cancels, and nothing is asked twice."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chat_server import chat_server
from tests.conftest import draw_pictures
from vd100k.io import jsonl
from vd100k.preference.judge import LOSS, TIE, WIN, Preference, preference, told

Call = Callable[..., subprocess.CompletedProcess[str]]
COUNT = 12


def said(*verdicts: str) -> list[str | None]:
    return [json.dumps({"reason": "…", "verdict": verdict}) for verdict in verdicts]


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        (said("second", "first"), Preference(WIN, True, False)),
        (said("first", "second"), Preference(LOSS, True, False)),
        (said("tie", "tie"), Preference(TIE, True, False)),
        (said("tie", "first"), Preference(WIN, True, False)),
        (said("first", "first"), Preference(TIE, True, True)),
        (said("second", "second"), Preference(TIE, True, True)),
        ([*said("second"), None], Preference(TIE, False, False)),
        (["no JSON", *said("first")], Preference(TIE, False, False)),
        (said("right", "first"), Preference(TIE, False, False)),
    ],
)
def test_an_answer_wins_if_both_orders_together_speak_for_it(replies: list[str | None], expected: Preference) -> None:
    assert preference(replies) == expected


JSON = st.recursive(
    st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)
REPLIES = st.none() | st.text() | JSON.map(json.dumps) | st.builds(lambda v: json.dumps({"verdict": v}), JSON)


@given(REPLIES, REPLIES)
def test_any_reply_is_a_verdict_or_none(one: str | None, other: str | None) -> None:
    found = preference([one, other])
    assert found.value in (WIN, TIE, LOSS)
    assert found.known or found.value == TIE


def test_the_sentence_names_what_is_odd() -> None:
    found = {"a": Preference(WIN, True, False), "b": Preference(TIE, True, True), "c": Preference(TIE, False, False)}
    assert told("j", found, 4) == (
        "judge j: 1 answers better after, 0 worse, 1 tied; 1 of the ties are pairs on which it preferred the same "
        "place in both orders; 1 without a verdict, which count as ties; 4 pairs of equal answers were not asked about"
    )


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    draw_pictures(tmp_path / "heldout", COUNT)
    jsonl.write(tmp_path / "labels.jsonl", [{"id": f"{k:02}.png", "answer": "a cat"} for k in range(COUNT)])
    return [
        *("stage=evaluate", "dataset=photos", "task=vqa", "answers=m", "hardware=cpu", "stage.ask.check=false"),
        *("stage.images=heldout", "stage.labels=labels.jsonl", "stage.judge=true", "verify=judge"),
        *("stage.ask.max_in_flight=1", "model@judge.model=gpt-4o", "hardware@judge.hardware=api"),
        "judge.model.api_key_env=null",
    ]


def answering(number: int, body: dict[str, Any]) -> str:
    """The tuned model says more, except about every fourth picture."""
    return "a cat on a mat" if body["model"].endswith("-tuned") and number % 4 else "a cat"


def test_a_judge_prefers_the_better_answer_whatever_the_order(vd100k: Call, tmp_path: Path, options: list[str]) -> None:
    def judging(number: int, body: dict[str, Any]) -> str:
        text = body["messages"][-1]["content"][-1]["text"]
        first, second = text.split("First answer: ")[1].split("\n\nSecond answer: ")
        return said("first" if "mat" in first else "second" if "mat" in second else "tie")[0] or ""

    with chat_server(answering) as server, chat_server(judging, "gpt-4o") as judge:
        run = [*options, f"hardware.urls=[{server.url}]", f"judge.hardware.urls=[{judge.url}]"]
        done = vd100k(*run)
        assert done.returncode == 0, done.stderr
        assert len(judge.requests) == 2 * 9
        again = vd100k(*run)
        assert again.returncode == 0, again.stderr
        assert len(judge.requests) == 2 * 9, "a pair was judged twice"
    assert "judge gpt-4o: 9 answers better after, 0 worse, 0 tied; 3 pairs of equal answers" in done.stdout
    found = json.loads((tmp_path / "outputs/latest/summary.json").read_text(encoding="utf-8"))
    assert found["metrics"]["after"]["judge"] == 0.875
    assert found["metrics"]["before"]["judge"] == 0.125
    assert found["certainty"]["changes"]["judge"]["verdict"] == "better"
    html = (tmp_path / "outputs/latest/report.html").read_text(encoding="utf-8")
    assert "preferred by the judge" in html


def test_a_judge_that_favours_a_place_or_says_nothing(vd100k: Call, tmp_path: Path, options: list[str]) -> None:
    def first(number: int, body: dict[str, Any]) -> str:
        return said("first")[0] or ""

    with chat_server(answering) as server, chat_server(first, "gpt-4o") as judge:
        done = vd100k(*options, f"hardware.urls=[{server.url}]", f"judge.hardware.urls=[{judge.url}]")
    assert done.returncode == 0, done.stderr
    assert "0 answers better after, 0 worse, 9 tied; 9 of the ties are pairs" in done.stdout
    with chat_server(answering) as server, chat_server(lambda n, body: "I cannot", "gpt-4o") as judge:
        done = vd100k(
            *(*options, f"hardware.urls=[{server.url}]", f"judge.hardware.urls=[{judge.url}]"),
            *("stage.folder=elsewhere", "stage.ask.max_retries=0"),
        )
    assert done.returncode == 1
    assert "The judge gpt-4o gave no verdict on any of 9 pairs of answers" in done.stderr, done.stderr


def test_a_judge_needs_to_be_chosen_and_two_sides(vd100k: Call, options: list[str]) -> None:
    done = vd100k(*(one for one in options if "judge." not in one and one != "verify=judge"))
    assert "stage.judge=true asks a judge, and none is chosen: add verify=judge" in done.stderr
    done = vd100k(*options, "stage.sides=[after]")
    assert "stage.judge=true compares the answers of two sides" in done.stderr
