"""Replies of models, parsed as the task asks, and repaired where nothing is lost by it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.boxes import frames
from vd100k.images.resizing import SizeRule
from vd100k.llm.readers import ParseError, read

CHOICE = {"question": "Which?", "choiceA": "a", "choiceB": "b", "choiceC": "c", "choiceD": "d", "answer": "B"}


@given(st.text(min_size=1))
def test_text_is_kept_unchanged(reply: str) -> None:
    assert read("text", reply) == {"answer": reply}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_valid_json_is_kept_byte_for_byte(value: Any) -> None:
    reply = json.dumps(value, indent=1)
    assert read("json", reply) == {"answer": reply}


@pytest.mark.parametrize(
    "reply",
    ['```json\n{"a": "1"}\n```', "Here it is: {'a': '1',}", '{"a": "1"', '{a: "1"} Hope this helps!'],
)
def test_json_with_small_errors_is_repaired(reply: str) -> None:
    assert json.loads(read("json", reply)["answer"]) == {"a": "1"}


@pytest.mark.parametrize("reply", ["There is a cat.", "", "[]", "{}", "{"])
def test_a_reply_without_json_is_an_error(reply: str) -> None:
    with pytest.raises(ParseError):
        read("choice", reply)


def test_json_that_was_cut_off_is_never_repaired() -> None:
    with pytest.raises(ParseError, match="cut off"):
        read("json", '{"products": [{"cases": "4"}, {"cas', complete=False)
    assert read("json", '{"whole": 1}', complete=False) == {"answer": '{"whole": 1}'}


@pytest.mark.parametrize(
    "answer", ["B", "b", "B.", "(B)", "choiceB", "choice B", "B. b", "选项B", " B) b", "The answer is B", "答案：B"]
)
def test_a_choice_is_understood_in_all_the_ways_that_models_write_it(answer: str) -> None:
    assert read("choice", json.dumps(CHOICE | {"answer": answer})) == CHOICE


def test_a_choice_given_as_the_text_of_an_option_is_that_option() -> None:
    options = {"choiceA": "a dog", "choiceB": "a cat", "choiceC": "Blue", "choiceD": "D"}
    for answer, letter in (("a cat", "B"), ("a dog", "A"), ("Blue", "C")):
        assert read("choice", json.dumps(CHOICE | options | {"answer": answer}))["answer"] == letter
    with pytest.raises(ParseError):
        read("choice", json.dumps(CHOICE | options | {"answer": "A and B"}))


@pytest.mark.parametrize("reader", ["json", "choice"])
def test_extreme_nesting_is_an_error(reader: str) -> None:
    with pytest.raises(ParseError):
        read(reader, "[" * 5000)


def test_a_question_that_was_cut_off_is_an_error() -> None:
    with pytest.raises(ParseError, match="cut off"):
        read("question", "What is the colour of the", complete=False)


def test_a_choice_is_repaired_and_extracted_from_a_list() -> None:
    assert read("choice", f"```json\n[{json.dumps(CHOICE)[:-1]},}}]\n```") == CHOICE
    assert read("choice", json.dumps(CHOICE | {"choiceA": 3}))["choiceA"] == "3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "E"}, "answer"),
        ({"answer": "Because"}, "answer"),
        ({"choiceC": "a"}, "two options are the same"),
        ({"choiceD": " "}, "choiceD"),
        ({"question": None}, "question"),
    ],
)
def test_an_invalid_choice_is_an_error_that_names_the_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ParseError, match=message):
        read("choice", json.dumps(CHOICE | change))


@pytest.mark.parametrize(
    ("reply", "question"),
    [
        ("What is it?", "What is it?"),
        ("Question: What is it?", "What is it?"),
        ("**Question:** What is it?", "What is it?"),
        ("问题：这是什么？", "这是什么？"),
        ("“这是什么？”\n", "这是什么？"),
        ("Questions are what?", "Questions are what?"),
        ('Does it say "STOP"', 'Does it say "STOP"'),
    ],
)
def test_labels_and_quotes_around_a_question_are_removed(reply: str, question: str) -> None:
    assert read("question", reply) == {"question": question, "answer": ""}


def test_an_answer_that_is_too_deep_for_its_schema_is_a_parse_error() -> None:
    tree = {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}
    with pytest.raises(ParseError, match="nested too deeply"):
        read("json", "[" * 400 + "]" * 400, schema=tree)


def test_halves_of_a_character_in_repaired_json_become_question_marks() -> None:
    fields = read("json", '{"a": "\\ud83d",}')
    assert fields["answer"] == '{"a": "?"}'


def test_boxes_are_read_beside_the_unchanged_reply() -> None:
    locate = partial(frames.named("thousandths-tags", SizeRule(28, 3136, 1_003_520)).read, size=(2000, 1000))
    reply = "<ref>dog</ref><box>(0,0),(100,100)</box>"
    assert read("boxes", reply, locate=locate) == {
        "answer": reply,
        "boxes": [{"label": "dog", "box": [0, 0, 200, 100]}],
    }
    with pytest.raises(ParseError, match="cut off at max_tokens"):
        read("boxes", reply, complete=False, locate=locate)
    with pytest.raises(ParseError, match="it contains no box"):
        read("boxes", "There is a dog.", locate=locate)
