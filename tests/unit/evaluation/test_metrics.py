"""How answers are compared with their labels."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.evaluation.metrics import mean, score

LABEL = {"count": 2, "colour": "red"}


@pytest.mark.parametrize(
    ("answer", "exact", "valid", "fields"),
    [
        ('{"colour": "red", "count": 2}', 1, 1, 1),
        ('{"colour": "red", "count": 3}', 0, 1, 0.5),
        ('{"colour": "red", "count": "2"}', 0, 1, 0.5),
        ('{"colour": "red", "count": 2, "more": 1}', 0, 1, 1),
        ("[2, 1]", 0, 1, 0),
        ("two red", 0, 0, 0),
        ("", 0, 0, 0),
        (None, 0, 0, 0),
    ],
)
def test_a_json_answer_is_scored_by_its_fields(answer: str | None, exact: float, valid: float, fields: float) -> None:
    assert score(answer, LABEL)[:3] == (exact, valid, fields)


def test_true_differs_from_one_and_null_is_an_answer() -> None:
    assert score('{"n": true}', {"n": 1}).exact_match == 0
    assert score("null", None).exact_match == 1
    assert score(None, None).exact_match == 0


def test_a_text_answer_is_compared_without_surrounding_space() -> None:
    assert mean([score(" a cat \n", "a cat"), score("a dog", "a cat")]).exact_match == 0.5
    assert mean([]).figures() == {"exact_match": 0, "valid_json": 0, "field_accuracy": 0}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=8
)


@given(st.lists(st.tuples(st.none() | st.text(), st.text() | st.dictionaries(st.text(), json_values)), max_size=20))
def test_every_score_is_between_0_and_1(pairs: list[tuple[str | None, object]]) -> None:
    assert all(0 <= value <= 1 for value in mean([score(*pair) for pair in pairs]).figures().values())


@given(st.dictionaries(st.text(), json_values, min_size=1))
def test_the_label_itself_is_a_correct_answer(label: dict[str, object]) -> None:
    assert score(json.dumps(label), label)[:3] == (1, 1, 1)
