"""Boxes in every notation: what is written is read back, and no text is an error."""

from __future__ import annotations

import contextlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.boxes import frames
from vd100k.boxes.box import Box, BoxError, Size, checked, clean
from vd100k.boxes.matching import iou
from vd100k.boxes.notations import NOTATIONS, Frame
from vd100k.images.resizing import SizeRule

RULE = SizeRule(28, 3136, 1_003_520)
SIZE = (2000, 1000)  # reduced to 1400 x 700
DOG = Box("女生", (882, 382, 1466, 811))
ANSWERS = {
    "thousandths-tags": "<ref>女生</ref><box>(441,382),(733,811)</box>",
    "thousandths-tokens": "<|object_ref_start|>女生<|object_ref_end|><|box_start|>(441,382),(733,811)<|box_end|>",
    "resized-pixels-json": '```json\n[\n\t{"bbox_2d": [617, 267, 1026, 568], "label": "女生"}\n]\n```',
    "thousandths-json": '```json\n[\n\t{"bbox_2d": [441, 382, 733, 811], "label": "女生"}\n]\n```',
}
every = pytest.mark.parametrize("frame", [frames.named(name, RULE) for name in NOTATIONS], ids=list(NOTATIONS))


@pytest.mark.parametrize("name", NOTATIONS)
def test_each_notation_is_written_as_its_family_writes_it(name: str) -> None:
    frame = frames.named(name, RULE)
    assert frame.write([DOG], SIZE) == ANSWERS[name]
    (read,) = frame.read(ANSWERS[name], SIZE)
    assert read.label == DOG.label
    assert read.corners == pytest.approx(DOG.corners, abs=1.5)


def test_a_notation_of_special_tokens_is_read_after_a_server_has_left_them_out() -> None:
    frame = frames.named("thousandths-tokens", RULE)
    boxes = [DOG, Box("small dog", (0, 0, 100, 100)), Box("small dog", (200, 0, 300, 100))]
    served = frame.write(boxes, SIZE)
    for token in ("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>"):
        served = served.replace(token, "")
    assert served == "女生(441,382),(733,811)\nsmall dog(0,0),(50,100)\nsmall dog(100,0),(150,100)"
    assert frame.read(served, SIZE) == frame.read(frame.write(boxes, SIZE), SIZE)
    assert [box.label for box in frame.read("dog(1,2),(3,4)(5,6),(7,8)cat (9,9),(10,10)", SIZE)] == [
        "dog",
        "dog",
        "cat",
    ]


FAULTS = {
    "<ref>cat</ref>": "the label “cat” has no box",
    "<ref>cat</ref><ref>dog</ref><box>(1,2),(3,4)</box>": "the label “cat” has no box",
    "<box>(1,2),(3,4)</box>": "has no label",
    "<ref>cat</ref><box>(1,2),(3,4)</box><box>(5,": "not complete: <box>(5,",
    "<ref>cat</ref><box>(1,2),(3,4)</box>\n<ref>do": "not complete: <ref>do",
    "cat(1,2),(3,4)\ndog(5,6),(7": "not complete: (5,6),(7",
    "A dog is sleeping.": "it contains no box",
    "": "it contains no box",
}
JSON_FAULTS = {
    '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": [5, 6': "“” is not four numbers",
    '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": [5, 6, 7, 8], "label": "do': "cut off",
    '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"},': "cut off",
    '[{"label": "cat"}]': "the label “cat” has no box",
    '[{"bbox_2d": [1, 2, 3, 4]}]': "the box [1, 2, 3, 4] has no label",
    '[{"bbox_2d": [1, 2, 3], "label": "cat"}]': "the box of “cat” is not four numbers",
    '[{"bbox_2d": [1, 2, 3, true], "label": "cat"}]': "the box of “cat” is not four numbers",
    '[{"bbox_2d": [1, 2, 3, NaN], "label": "cat"}]': "the box of “cat” is not four numbers",
    "A dog is sleeping.": "it contains no JSON",
    "[" * 5000: "cannot be read",
    '[{"bbox_2d": [0, 0, 1' + "0" * 5000 + ', 7], "label": "cat"}]': "four numbers|cannot be read",
}


@pytest.mark.parametrize("name", NOTATIONS)
def test_what_is_wrong_with_an_answer_is_said(name: str) -> None:
    frame = frames.named(name, RULE)
    for answer, told in (JSON_FAULTS if frame.notation.is_json else FAULTS).items():
        with pytest.raises(BoxError) as error:
            frame.read(answer, SIZE)
        assert any(text in str(error.value) for text in told.split("|")), (answer[:99], error.value)


def test_small_errors_in_json_are_repaired() -> None:
    frame = frames.named("thousandths-json", RULE)
    cat = [Box("cat", (2, 2, 6, 4))]
    assert frame.read('Here: [{"bbox_2d": [1, 2, 3, 4], "label": "cat",}] That is all.', SIZE) == cat
    assert frame.read('{"objects": [{"bbox": [1, 2, 3, 4], "label": "cat"}]}', SIZE) == cat
    assert frame.read("```json\n[]\n```", SIZE) == []


def test_no_box_can_be_written_only_in_json() -> None:
    for name, notation in NOTATIONS.items():
        frame = frames.named(name, RULE)
        if notation.is_json:
            assert frame.read(frame.write([], SIZE), SIZE) == []
        else:
            with pytest.raises(BoxError, match="no box"):
                frame.write([], SIZE)


@every
def test_a_box_that_whole_numbers_cannot_hold_is_refused(frame: Frame) -> None:
    with pytest.raises(BoxError, match=r"“ant” is too small: its corners are equal in \S+-\S+$"):
        frame.write([DOG, Box("ant", (500.01, 10, 500.02, 400))], SIZE)


def test_a_label_that_looks_like_a_box_is_refused_in_text() -> None:
    for label in ("(1,2),(3,4)", "<ref>", "a</ref>b", "<box>(1,2),(3,4)</box>"):
        boxes = [Box(label, DOG.corners)]
        assert frames.named("thousandths-json", RULE).read(
            frames.named("thousandths-json", RULE).write(boxes, SIZE), SIZE
        )
        with pytest.raises(BoxError):
            frames.named("thousandths-tags", RULE).write([Box(label + "</ref>", DOG.corners)], SIZE)


@st.composite
def images(draw: st.DrawFn) -> tuple[Size, list[Box]]:
    """The size of an image, and boxes of at least 5 % of its sides on it."""
    size = draw(st.tuples(st.integers(60, 5000), st.integers(60, 5000)))
    boxes = []
    for label in draw(st.lists(st.text(min_size=1, max_size=30).map(clean).filter(bool), min_size=1, max_size=4)):
        corners = [0.0] * 4
        for k in (0, 1):
            first = draw(st.floats(0, 0.94))
            corners[k], corners[k + 2] = size[k] * first, size[k] * draw(st.floats(first + 0.05, 1))
        boxes.append(Box(label, (corners[0], corners[1], corners[2], corners[3])))
    return size, boxes


@every
@given(drawn=images())
def test_any_boxes_are_read_back_within_the_bound_of_rounding(frame: Frame, drawn: tuple[Size, list[Box]]) -> None:
    size, boxes = drawn
    if min(size) * 100 < max(size):
        return  # a side of the reduced image would be a single token
    if not frame.notation.is_json:  # such labels may look like boxes and tags
        boxes = [box for box in boxes if not set("<(") & set(box.label)] or [Box("dog", boxes[0].corners)]
    read = frame.read(frame.write(boxes, size), size)
    assert [box.label for box in read] == [box.label for box in boxes]
    scale = frame.notation.scale(frame.resized(*size))
    for box, again in zip(boxes, read, strict=True):
        for k in range(4):
            bound = 0.5 * size[k % 2] / scale[k % 2] + 0.01  # half a unit of the notation, and the decimals
            assert abs(box.corners[k] - again.corners[k]) <= bound
        checked(again, size)


@every
@given(answer=st.text() | st.text("<>refbox/|_startendjc()[]{}:,.-0123456789 \n\"'").map(lambda text: text * 3))
def test_no_text_is_an_error(frame: Frame, answer: str) -> None:
    for text in (answer, f"bbox {answer}", f'[{{"bbox_2d": {answer}'):
        for box in frame.find(text, (100, 80)):
            assert checked(box, (100, 80)) == box
        with contextlib.suppress(BoxError):
            frame.read(text, (100, 80))


def test_boxes_of_natural_size_keep_an_iou_near_one() -> None:
    rng = random.Random(0)
    for name in NOTATIONS:
        frame, ious = frames.named(name, RULE), []
        for _ in range(300):
            size = rng.randint(200, 4000), rng.randint(200, 4000)
            width, height = (rng.uniform(0.1, 0.6) * side for side in size)
            x, y = rng.uniform(0, size[0] - width), rng.uniform(0, size[1] - height)
            box = Box("a shape", (x, y, x + width, y + height))
            ious.append(iou(box.corners, frame.read(frame.write([box], size), size)[0].corners))
        assert sum(ious) / len(ious) >= 0.99, name


def test_boxes_are_found_in_text_of_either_form() -> None:
    frame = frames.named(None, RULE)
    text = "There: <ref> dog </ref> <box>( 0, 0 ), (100,100)</box><box>(500,500),(600,600)</box> and <ref>cat</ref>"
    assert frame.find(text, SIZE) == [Box("dog", (0, 0, 200, 100)), Box("dog", (1000, 500, 1200, 600))]
    assert frame.find("(100,100),(200,300)", (1000, 1000)) == [Box("", (100, 100, 200, 300))]
    assert frame.find("In (2024), (3) people.", SIZE) == []
    answer = '```json\n[\n\t{"bbox_2d": [0, 0, 700, 336], "label": "dog"}\n]\n```'
    assert frame.find(answer, SIZE) == [Box("dog", (0, 0, 1000, 480))]
    assert frame.find(answer.replace("\n]\n```", ', {"bbox_2d": [10, 2'), SIZE) == [Box("dog", (0, 0, 1000, 480))]
    assert frames.named("thousandths-tags", RULE).find(answer, SIZE) == [Box("dog", (0, 0, 1400, 336))]
    assert frame.find("bbox " + "[" * 3000, SIZE) == []
    outside = json.dumps([{"bbox_2d": [900, 400, 5000, 5000], "label": "sky"}])
    assert frames.named("thousandths-json", RULE).find(outside, SIZE) == [Box("sky", (1800, 400, 2000, 1000))]
