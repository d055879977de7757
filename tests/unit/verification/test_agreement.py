"""How far answers agree: fields of JSON, numbers, letters, short answers and longer texts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.boxes.box import Box
from vd100k.verification.agreement import agreement, comparison, of_boxes, overlap

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def fields(answer: object, *others: object, tolerance: float = 0.0) -> tuple[float, str]:
    return agreement(json.dumps(answer), [json.dumps(other) for other in others], "fields", tolerance)


def test_a_row_is_as_doubtful_as_its_most_doubtful_field() -> None:
    found = fields({"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 1, "b": "x"}, {"a": 1, "b": "z"}, {"a": 2, "b": "x"})
    assert found == (0.5, 'b: "x", but 2 of 4 others say 1 × "y", 1 × "z"')


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Red", " red.", True),
        ("12", 12, True),
        (12.0, 12, True),
        ("007", 7, False),
        (True, 1, False),
        (None, "", False),
        ([], {}, False),
        ("1,5", "1.5", False),
    ],
)
def test_values_are_equal_if_they_say_the_same(one: object, other: object, same: bool) -> None:
    assert fields({"a": one}, {"a": other}).score == float(same)  # type: ignore[attr-defined]


def test_numbers_may_differ_by_the_tolerance() -> None:
    assert fields({"a": 100}, {"a": 101}, tolerance=0.02)[0] == 1
    assert fields({"a": 100}, {"a": 103}, tolerance=0.02)[0] == 0


def test_fields_that_one_of_the_answers_lacks_are_doubtful() -> None:
    assert fields({"a": 1, "b": 2}, {"a": 1}) == (0.0, "b: 2, but 1 of 1 others say nothing")
    assert fields({"a": 1}, {"a": 1, "b": 2}, {"a": 1}) == (0.5, "b: the answer has none, 1 of 2 others do")


def test_an_answer_that_is_not_json_is_confirmed_by_nothing() -> None:
    assert agreement("{", ["{}"], "fields").score == 0
    assert agreement('{"a": 1}', ["not JSON"], "fields").score == 0


@given(JSON, st.integers(1, 4))
def test_an_answer_that_is_repeated_has_the_highest_score(content: object, times: int) -> None:
    assert fields(content, *[content] * times)[0] == 1


@given(
    st.text(max_size=40),
    st.lists(st.text(max_size=40), min_size=1, max_size=4),
    st.sampled_from(["text", "json", "choice"]),
)
def test_any_texts_have_a_score_from_0_to_1(answer: str, others: list[str], reader: str) -> None:
    found = agreement(answer, others, comparison(reader, [answer, *others]))
    assert 0 <= found.score <= 1 + 1e-9


def test_letters_count_and_not_what_stands_behind_them() -> None:
    assert agreement("B", ["B. a cat", "(b)", "C"], "letters").score == pytest.approx(2 / 3)


def test_a_comparison_is_chosen_by_the_reader_and_the_length() -> None:
    assert [comparison("json", []), comparison("choice", [])] == ["fields", "letters"]
    assert [comparison("text", ["a cat", "cat"]), comparison("text", ["a cat", "word " * 20])] == ["short", "words"]


def test_the_overlap_of_texts_counts_words_and_chinese_characters() -> None:
    assert overlap("A red car", "a red bus") == pytest.approx(2 / 3)
    assert overlap("红色的车", "红色的船") == pytest.approx(3 / 4)
    assert overlap("!", "!") == 1


def test_boxes_are_confirmed_by_their_mean_iou() -> None:
    def box(right: float, label: str = "cat") -> Box:
        return Box(label, (0, 0, right, 10))

    assert of_boxes([box(10)], [[box(10)], [box(5)]]).score == pytest.approx(0.75)
    assert of_boxes([box(10)], [[box(10, "dog")]]).score == 0
    assert of_boxes([], [[]]).score == 1
