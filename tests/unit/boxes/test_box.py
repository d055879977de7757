"""Boxes in our own form, and how well boxes agree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.boxes.box import Box, BoxError, Corners, checked, from_row
from vd100k.boxes.matching import agreement, iou

GOOD = {"label": "dog", "box": [1, 2, 3.5, 4]}


def test_boxes_of_a_row_are_read_and_written() -> None:
    boxes = from_row([GOOD, {"label": " a \n cat ", "box": (0, 0, 1, 1)}])
    assert boxes == [Box("dog", (1, 2, 3.5, 4)), Box("a cat", (0, 0, 1, 1))]
    assert from_row([box.as_row() for box in boxes]) == boxes


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"label": "dog"}, '"boxes" is dict, not a list'),
        (["dog"], "box 1 is str, not an object"),
        ([GOOD, {"box": [1, 2, 3, 4]}], "box 2 has no label"),
        ([{"label": " ", "box": [1, 2, 3, 4]}], "box 1 has no label"),
        ([{"label": "dog"}], "the label “dog” has no box"),
        ([{"label": "dog", "box": [1, 2, 3]}], "the box of “dog” is not four numbers"),
        ([{"label": "dog", "box": [1, 2, 3, float("nan")]}], "not four numbers"),
        ([{"label": "dog", "box": [1, 2, 3, True]}], "not four numbers"),
        ([{"label": "dog", "box": [1, 2, 3, "4"]}], "not four numbers"),
    ],
)
def test_what_is_wrong_with_the_boxes_of_a_row_is_said(value: Any, told: str) -> None:
    with pytest.raises(BoxError, match=told):
        from_row(value)


@pytest.mark.parametrize(
    ("corners", "told"),
    [
        ((30, 2, 10, 40), r"the corners of “dog” \[30, 2, 10, 40\] are reversed"),
        ((3, 40, 10, 4), "are reversed"),
        ((3, 4, 3, 10), "has no area"),
        ((3, 4, 10, 4), "has no area"),
        ((3, 4, 102, 10), "outside the image of 100 x 50 pixels"),
        ((-2, 4, 10, 10), "outside the image"),
        ((100.5, 4, 101, 10), "has no area"),
    ],
)
def test_a_box_that_cannot_be_right_is_refused(corners: Corners, told: str) -> None:
    with pytest.raises(BoxError, match=told):
        checked(Box("dog", corners), (100, 50))


def test_a_corner_just_outside_is_moved_into_the_image() -> None:
    assert checked(Box("dog", (-1, 0, 100.4, 50)), (100, 50)) == Box("dog", (0, 0, 100, 50))
    assert checked(Box("dog", (0, 0, 4003, 40)), (4000, 3000)).corners[2] == 4000


corner = st.floats(0, 1000)
boxes = st.builds(
    lambda label, x, y, w, h: Box(label, (x, y, x + w, y + h)), st.sampled_from("ab"), *[corner] * 2, *[corner] * 2
)


@given(boxes, boxes)
def test_the_iou_is_symmetric_and_one_for_equal_boxes(one: Box, other: Box) -> None:
    assert iou(one.corners, other.corners) == pytest.approx(iou(other.corners, one.corners))
    assert 0 <= iou(one.corners, other.corners) <= 1
    x1, y1, x2, y2 = one.corners
    if x2 - x1 > 0.001 and y2 - y1 > 0.001:
        assert iou(one.corners, one.corners) == pytest.approx(1)


@given(st.lists(boxes, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_boxes_does_not_count(some: list[Box], rng: Any) -> None:
    some = [box for box in some if box.corners[2] - box.corners[0] > 1 and box.corners[3] - box.corners[1] > 1]
    mixed = rng.sample(some, len(some))
    assert agreement(mixed, some).mean_iou == pytest.approx(1)


def test_boxes_that_are_missing_or_too_many_count_as_zero() -> None:
    left, right = Box("dog", (0, 0, 10, 10)), Box("dog", (50, 0, 60, 10))
    assert agreement([left], [left, right]) == (0.5, 0.5)
    assert agreement([left, right], [right]) == (0.5, 0.5)
    assert agreement([], [left]) == (0, 0)
    assert agreement([], []) == (1, 1)
    assert agreement([Box("cat", left.corners)], [left]) == (0, 0), "another label: one is missing, one too many"
    assert agreement([Box("DOG", (0, 0, 10, 5))], [left]) == (0.5, 1)


def test_boxes_are_matched_so_that_the_sum_is_the_largest() -> None:
    # The first found box overlaps both right ones, and the second only one of them.
    found = [Box("a", (0, 0, 10, 10)), Box("a", (0, 0, 4, 10))]
    right = [Box("a", (0, 0, 9, 10)), Box("a", (4, 0, 10, 10))]
    assert agreement(found, right).mean_iou == pytest.approx((4 / 9 + 6 / 10) / 2)
