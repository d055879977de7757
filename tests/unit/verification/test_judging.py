"""What a judge is asked, and how its verdict is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.config.run import Run
from vd100k.errors import DataError
from vd100k.verification.judging import judging, read

ROW = {"id": "a.png", "question": "Describe it.", "asked": "Describe it.", "answer": '{"colour": "red"}'}


@pytest.fixture
def judge(parsed: Callable[..., Run]) -> Callable[..., Run]:
    return lambda *overrides: parsed("stage=verify", "verify=judge", "images=photos", *overrides)


def tokens(*texts: str, **shares: float) -> list[dict[str, float]]:
    """Tokens that are certain, except for the one with these probabilities: the first of them was chosen."""
    return [{name: math.log(share) for name, share in shares.items()} if text == "?" else {text: 0.0} for text in texts]


def reply(answer: str, logprobs: list[dict[str, float]] | None = None) -> dict[str, Any]:
    return {"answer": answer, **({"logprobs": logprobs} if logprobs else {})}


def in_json(verdict: str) -> str:
    return json.dumps({"reason": "it is right to say wrong", "verdict": verdict})


def test_the_judge_sees_the_question_the_answer_and_the_rubric_of_the_task(judge: Callable[..., Run]) -> None:
    for language, words in (
        ("en", ("Question: Describe it.", "Criteria: Every printed field")),
        ("zh", ("问题：", "标准：图片上有")),
    ):
        task, prompt = judging(judge("task=manifest", f"task.language={language}"))
        text = prompt(ROW)
        assert text is not None
        assert all(word in text for word in (*words, '{"colour": "red"}'))
        assert task.json_schema is not None
        assert "Criteria" not in str(judging(judge("task=vqa"))[1](ROW))


def test_a_prompt_of_ones_own_may_use_the_fields_of_the_answer(judge: Callable[..., Run]) -> None:
    own = judge("verify.judge.prompt='Is it {{ fields.colour }}? {{ fields.shape }}'", "verify.judge.json_reply=false")
    task, prompt = judging(own)
    assert (prompt(ROW), task.json_schema, task.reader) == ("Is it red? ", None, "text")
    with pytest.raises(DataError, match="Its variables are question, answer, fields and rubric"):
        judging(judge("verify.judge.prompt='{% if %}'"))[1](ROW)


def test_the_options_of_a_choice_are_part_of_its_question(judge: Callable[..., Run]) -> None:
    row = ROW | {f"choice{letter}": letter.lower() for letter in "ABCD"}
    assert "Describe it.\nA. a\nB. b" in str(judging(judge())[1](row))


def test_the_score_is_the_probability_of_the_verdict(judge: Callable[..., Run]) -> None:
    settings = judge().verify.judge
    assert settings
    before = ('{"reason": "it is right to say wrong", ', '"verdict": ', '"')
    found = read(reply(in_json("wrong"), tokens(*before, "?", '"}', wrong=0.6, right=0.2, maybe=0.1)), settings)
    assert found
    assert (round(found.score, 6), found.right, found.reason) == (0.25, False, "it is right to say wrong")
    # The quotation mark, and a part of the word, in one token.
    found = read(reply(in_json("right"), tokens(*before[:2], "?", 'ght"}', **{'"ri': 0.9, '"wr': 0.1})), settings)
    assert found
    assert round(found.score, 6) == 0.9


def test_without_probabilities_the_score_is_the_verdict(judge: Callable[..., Run]) -> None:
    settings = judge().verify.judge
    assert settings
    assert read(reply(in_json("right")), settings) == (1.0, "it is right to say wrong", True)
    assert read(reply(in_json("Wrong.")), settings) == (0.0, "it is right to say wrong", False)
    # The tokens end before the verdict, or the verdict comes first: then they say nothing about it.
    assert read(reply(in_json("right"), tokens('right", "reason": "…"}')), settings) == (
        1.0,
        "it is right to say wrong",
        True,
    )


def test_a_plain_text_begins_with_the_verdict(judge: Callable[..., Run]) -> None:
    settings = judge("verify.judge.json_reply=false", "verify.judge.right=yes", "verify.judge.wrong=no").verify.judge
    assert settings
    found = read(reply("Yes, it is.", tokens("?", ",", " it", " is", ".", "<|im_end|>", Yes=0.8, No=0.2)), settings)
    assert found
    assert (round(found.score, 6), found.right) == (0.8, True)
    assert read(reply("**no**"), settings) == (0.0, "", False)
    assert read(reply("I am sorry"), settings) is None
    assert read(reply("yes " * 50, tokens("yes", " ", "yes")), settings) == (1.0, "", True)


@given(
    st.text(max_size=60),
    st.none() | st.lists(st.dictionaries(st.text(max_size=5), st.floats(-50, 0), max_size=3), max_size=4),
)
def test_any_reply_is_read(answer: str, logprobs: Any) -> None:
    from vd100k.config.run import Judge

    texts = {"en": {"prompt": "?"}}
    for json_reply in (True, False):
        settings = Judge(
            samples=1, logprobs=True, texts=texts, system_prompt=None, prompt="?", comparison="?",
            right="right", wrong="wrong", json_reply=json_reply, sampling={},
        )  # fmt: skip
        found = read(reply(answer, logprobs), settings)
        assert found is None or 0 <= found.score <= 1
