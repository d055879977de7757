"""The requests that a training row corresponds to are those that our clients send."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vd100k.config.run import Run
from vd100k.images.encode import ImageError, encode
from vd100k.images.resizing import SizeRule
from vd100k.llm import prompts
from vd100k.parity.chats import NotARequest, chat, with_each_answer

RULE = SizeRule(28, 3136, 50_000)


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    for k in range(2):
        Image.new("RGB", (60 + k, 50), (k * 80, 9, 9)).save(tmp_path / f"{k}.png")
    return [str(tmp_path / f"{k}.png") for k in range(2)]


def row(images: list[str], *turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"messages": messages, "images": images, **more}


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_the_request_of_a_row_is_the_request_of_generate(
    parsed: Callable[..., Run], images: list[str], system: str | None
) -> None:
    task = parsed("stage=generate", "images=p", "task=vqa").task.model_copy(
        update={"prompt": "{{ question }}", "system_prompt": system}
    )
    before, after = prompts.body(task, "m", "What is it?")
    sent = json.loads(before + encode(images[0], RULE).url + after)["messages"]
    found = chat(row(images[:1], ("user", "<image>What is it?"), ("assistant", "A cat.")), system, RULE)
    assert found.prompts == [sent]
    assert found.whole == [*sent, {"role": "assistant", "content": "A cat."}]


def test_each_answer_has_the_messages_before_it_as_its_prompt(images: list[str]) -> None:
    turns = [("user", "<image><image>Which?"), ("assistant", "One."), ("user", "Sure?"), ("assistant", "Yes.")]
    found = chat(row(images, ("system", "its own"), *turns), "ours", RULE)
    assert [len(prompt) for prompt in found.prompts] == [2, 4]
    assert found.prompts[0][0] == {"role": "system", "content": "ours"}, "what clients send counts"
    kinds = [part["type"] for part in found.prompts[0][1]["content"]]
    assert kinds == ["image_url", "image_url", "text"]
    assert found.prompts[1][3] == {"role": "user", "content": "Sure?"}


def test_images_are_where_their_tags_are_and_without_tags_first(images: list[str]) -> None:
    [prompt] = chat(row(images, ("user", "Is <image> it?"), ("assistant", "No.")), None, RULE).prompts
    parts = [part.get("text", "image") for part in prompt[0]["content"]]
    assert parts == ["image", "Is ", "image", " it?"]


@pytest.mark.parametrize(
    ("turns", "more", "why"),
    [
        ([("user", "<image>" * 3), ("assistant", "a")], {}, "3 tags"),
        ([("user", "Find <ref-object>."), ("assistant", "a")], {}, "ms-swift replaces"),
        ([("tool", "x"), ("assistant", "a")], {}, "the role tool"),
        ([("user", "x"), ("assistant", "a")], {"videos": ["v.mp4"]}, "videos"),
    ],
)
def test_a_row_that_no_request_corresponds_to_says_why(
    images: list[str], turns: list[tuple[str, str]], more: dict[str, Any], why: str
) -> None:
    with pytest.raises(NotARequest, match=why):
        chat(row(images, *turns, **more), None, RULE)


@pytest.mark.parametrize("content", [{}, {"messages": "x"}, {"messages": [1]}, {"query": "q", "response": "a"}])
def test_a_row_in_another_layout_is_not_compared(content: dict[str, Any]) -> None:
    with pytest.raises(NotARequest, match="no messages"):
        chat(content, None, RULE)


TURNS = [("user", "<image>Which?"), ("assistant", "One."), ("user", "Sure?"), ("assistant", "Yes.")]


@pytest.mark.parametrize("worse", ["No.", [{"role": "assistant", "content": "No."}]])
def test_the_worse_answer_of_a_pair_takes_the_place_of_the_last_one(images: list[str], worse: object) -> None:
    pair = row(images[:1], *TURNS, rejected_response=worse)
    better, other = with_each_answer(pair)
    assert better is pair
    assert chat(other, None, RULE).prompts == chat(better, None, RULE).prompts
    assert (chat(other, None, RULE).whole or [])[-1] == {"role": "assistant", "content": "No."}


@pytest.mark.parametrize("more", [{}, {"rejected_response": None}, {"rejected_response": ""}])
def test_a_row_without_a_worse_answer_is_no_pair(images: list[str], more: dict[str, Any]) -> None:
    assert len(with_each_answer(row(images[:1], *TURNS, **more))) == 1


def test_a_worse_answer_that_is_neither_text_nor_messages_is_not_compared(images: list[str]) -> None:
    with pytest.raises(NotARequest, match="neither a text nor a list"):
        with_each_answer(row(images[:1], *TURNS, rejected_response=3))


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4), st.lists, max_leaves=4)
TURN = st.fixed_dictionaries(
    {}, optional={"role": st.sampled_from(["system", "user", "assistant"]) | JSON, "content": st.text() | JSON}
)
ANY_ROW = st.fixed_dictionaries(
    {}, optional={"messages": st.lists(TURN | JSON) | JSON, "images": JSON, "videos": JSON, "objects": JSON}
)


@given(ANY_ROW)
def test_any_row_becomes_a_request_or_says_why_not(content: dict[str, Any]) -> None:
    with contextlib.suppress(NotARequest, ImageError):
        chat(content, None, RULE)


def test_the_text_of_an_answer_with_boxes_is_written_by_ms_swift(images: list[str]) -> None:
    turns = [("user", "<image>Where?"), ("assistant", "<ref-object><bbox>")]
    found = chat(row(images[:1], *turns, objects={"ref": ["x"], "bbox": [[1, 2, 3, 4]]}), None, RULE)
    assert found.whole is None
    assert len(found.prompts) == 1
