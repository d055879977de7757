"""Finding and drawing the boxes of answers, in the notations of three generations of Qwen-VL."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vd100k.chat.grounding import draw
from vd100k.images.boxes import Box, find
from vd100k.images.resizing import SizeRule

RULE = SizeRule(28, 3136, 1_003_520)
SIZE = (2000, 1000)


@pytest.mark.parametrize(
    "answer",
    [
        "<ref>女生</ref><box>(441,382),(733,811)</box>",
        "There: <ref> 女生 </ref> <box>( 441, 382 ), (733,811)</box>.",
        "<|object_ref_start|>女生<|object_ref_end|><|box_start|>(441,382),(733,811)<|box_end|>",
    ],
)
def test_boxes_in_thousandths_are_found(answer: str) -> None:
    assert find(answer, SIZE, RULE) == [Box("女生", (882, 382, 1466, 811))]


def test_labels_may_have_several_boxes_or_none() -> None:
    text = "<ref>dog</ref><box>(0,0),(100,100)</box><box>(500,500),(600,600)</box> and <ref>cat</ref>"
    assert [box.label for box in find(text, SIZE, RULE)] == ["dog", "dog"]
    assert find("(100,100),(200,300)", (1000, 1000), RULE) == [Box("", (100, 100, 200, 300))]
    assert find("In (2024), (3) people.", SIZE, RULE) == []


def test_boxes_in_pixels_of_the_resized_image_are_found() -> None:
    answer = '```json\n[\n\t{"bbox_2d": [0, 0, 700, 336], "label": "dog"}\n]\n```'
    # 2000 x 1000 is reduced to 1400 x 700.
    assert find(answer, SIZE, RULE) == [Box("dog", (0, 0, 1000, 480))]
    cut_off = answer.replace("\n]\n```", ', {"bbox_2d": [10, 2')
    assert find(cut_off, SIZE, RULE)[0] == Box("dog", (0, 0, 1000, 480))


def test_unusual_json_is_read_without_errors() -> None:
    assert find("bbox " + "[" * 3000, SIZE, RULE) == []
    assert find('[{"bbox_2d": [0, 0, 1' + "0" * 400 + ", 7]}]", SIZE, RULE) == []
    nested = '{"objects": [{"bbox": [0, 0, 700, 336], "label": "dog"}]}'
    assert find(nested, SIZE, RULE) == [Box("dog", (0, 0, 1000, 480))]
    for odd in ("NaN", "Infinity", "1e999", '"7"', "null", "true, false"):
        assert find(f'[{{"bbox_2d": [0, 0, {odd}, 7]}}]', SIZE, RULE) in ([], [Box("", (0, 0, 10, 10))])


number = st.integers(0, 1200)


@settings(deadline=None)  # the first Chinese label searches for a font
@given(st.text(max_size=20), number, number, number, number)
def test_boxes_lie_within_the_image(label: str, x1: int, y1: int, x2: int, y2: int) -> None:
    image = Image.new("RGB", (320, 200))
    for answer in (
        f"<ref>{label}</ref><box>({x1},{y1}),({x2},{y2})</box>",
        json.dumps([{"bbox_2d": [x1, y1, x2, y2], "label": label}]),
    ):
        boxes = find(answer, image.size, RULE)
        for box in boxes:
            left, top, right, bottom = box.corners
            assert 0 <= left < right < 320
            assert 0 <= top < bottom < 200
        assert draw(image, boxes).size == image.size


def test_drawn_boxes_are_visible_on_a_copy_of_the_image() -> None:
    image = Image.new("RGB", (200, 200), "white")
    drawn = draw(image, [Box("dog", (50, 50, 150, 150)), Box("女生", (10, 10, 40, 40))])
    assert drawn.getpixel((150, 100)) != (255, 255, 255)
    assert drawn.getpixel((100, 100)) == (255, 255, 255)
    assert image.getpixel((150, 100)) == (255, 255, 255), "the image itself must not change"


@given(st.text())
def test_any_answer_is_read_without_errors(answer: str) -> None:
    find(answer, (100, 100), RULE)
    find(f"bbox {answer}", (100, 100), RULE)
