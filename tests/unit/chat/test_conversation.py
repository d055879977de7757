"""The chat history of the page as request messages, and replies as page content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vd100k.boxes import frames
from vd100k.chat import conversation
from vd100k.images import encode
from vd100k.images.encode import ImageError
from vd100k.images.resizing import SizeRule

RULE = SizeRule(28, 3136, 1_003_520)


def turn(role: str, text: str, *files: Path, **more: Any) -> conversation.Message:
    parts: list[conversation.Part] = [{"type": "file", "file": {"path": str(file)}} for file in files]
    return {"role": role, "content": [*parts, {"type": "text", "text": text}], **more}


def test_messages_have_images_before_text_and_alternating_roles(pictures: Path) -> None:
    one, two = sorted(pictures.iterdir())[:2]
    error = turn("assistant", "Error code: 500", metadata={"title": "No answer"})
    boxes = {"role": "assistant", "content": [{"type": "component", "component": "image", "value": {}}]}
    history = [turn("user", "first", one), turn("assistant", "1"), boxes, turn("user", "failed"), error]
    sent = conversation.messages([*history, turn("user", "last", two)], "Be brief.", RULE)
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "user"]
    assert [part["type"] for part in sent[1]["content"]] == ["image_url", "text"]
    assert sent[1]["content"][0]["image_url"]["url"] == encode.encode(str(one), RULE).url.decode()
    assert sent[2]["content"] == "1"
    assert [part.get("text") for part in sent[3]["content"]] == [None, "last"], (
        "a refused question must not be sent again"
    )


def test_an_image_without_a_question_has_no_text_part(pictures: Path) -> None:
    sent = conversation.messages([turn("user", "", next(pictures.iterdir()))], "", RULE)
    assert [part["type"] for part in sent[0]["content"]] == ["image_url"]


def test_a_broken_image_is_named_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(ImageError, match=r"^a\.png: "):
        conversation.messages([turn("user", "what?", tmp_path / "a.png")], "", RULE)


@given(st.text(min_size=1))
def test_a_shown_answer_is_sent_back_unchanged(answer: str) -> None:
    shown = conversation.as_shown(answer)
    assert "<" not in shown["content"][0]["text"]
    assert conversation.messages([shown], "", RULE) == [{"role": "assistant", "content": answer}]


@pytest.mark.parametrize("last", ["last.png", "last.jpg"])
def test_boxes_are_drawn_on_the_last_image(tmp_path: Path, last: str) -> None:
    for name, size in (("first.png", (80, 80)), (last, (200, 100))):
        Image.new("RGB", size, "white").save(tmp_path / name)
    turns = [turn("user", "", tmp_path / "first.png"), turn("user", "", tmp_path / last)]
    frame = frames.named("thousandths-tags", RULE)
    drawn = conversation.drawn("<ref>x</ref><box>(250,250),(750,750)</box>", turns, frame)
    assert drawn is not None
    assert drawn.size == (200, 100)
    assert conversation.drawn("nothing there", turns, frame) is None
    assert conversation.drawn("<box>(1,1),(2,2)</box>", [], frame) is None
