"""The requests that a training row corresponds to are those that our clients send."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vd100k.config.run import Run
from vd100k.images.encode import encode
from vd100k.images.resizing import SizeRule
from vd100k.llm import prompts
from vd100k.parity.chats import NotARequest, chat

CAP = SizeRule(28, 3136, 50_000)


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
    sent = json.loads(before + encode(images[0], CAP).url + after)["messages"]
    found = chat(row(images[:1], ("user", "<image>What is it?"), ("assistant", "A cat.")), system, CAP)
    assert found.prompts == [sent]
    assert found.whole == [*sent, {"role": "assistant", "content": "A cat."}]


def test_each_answer_has_the_messages_before_it_as_its_prompt(images: list[str]) -> None:
    turns = [("user", "<image><image>Which?"), ("assistant", "One."), ("user", "Sure?"), ("assistant", "Yes.")]
    found = chat(row(images, ("system", "its own"), *turns), "ours", CAP)
    assert [len(prompt) for prompt in found.prompts] == [2, 4]
    assert found.prompts[0][0] == {"role": "system", "content": "ours"}, "what clients send counts"
    kinds = [part["type"] for part in found.prompts[0][1]["content"]]
    assert kinds == ["image_url", "image_url", "text"]
    assert found.prompts[1][3] == {"role": "user", "content": "Sure?"}


def test_images_are_where_their_tags_are_and_without_tags_first(images: list[str]) -> None:
    [prompt] = chat(row(images, ("user", "Is <image> it?"), ("assistant", "No.")), None, CAP).prompts
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
        chat(row(images, *turns, **more), None, CAP)


def test_the_text_of_an_answer_with_boxes_is_written_by_ms_swift(images: list[str]) -> None:
    turns = [("user", "<image>Where?"), ("assistant", "<ref-object><bbox>")]
    found = chat(row(images[:1], *turns, objects={"ref": ["x"], "bbox": [[1, 2, 3, 4]]}), None, CAP)
    assert found.whole is None
    assert len(found.prompts) == 1
