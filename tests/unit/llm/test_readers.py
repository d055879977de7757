"""What models reply, read as the task asks; repaired where that loses nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.llm.readers import ParseError, read

CHOICE = {"question": "Which?", "choiceA": "a", "choiceB": "b", "choiceC": "c", "choiceD": "d", "answer": "B"}


@given(st.text(min_size=1))
def test_text_is_kept_as_it_came(reply: str) -> None:
    assert read("text", reply) == {"answer": reply}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_json_is_kept_to_the_letter(value: Any) -> None:
    reply = json.dumps(value, indent=1)
    assert read("json", reply) == {"answer": reply}


@pytest.mark.parametrize(
    "reply",
    ['```json\n{"a": "1"}\n```', "Here it is: {'a': '1',}", '{"a": "1"', '{a: "1"} Hope this helps!'],
)
def test_json_is_repaired(reply: str) -> None:
    assert json.loads(read("json", reply)["answer"]) == {"a": "1"}


@pytest.mark.parametrize("reply", ["There is a cat.", "", "[]", "{}", "{"])
def test_what_holds_no_json_is_told(reply: str) -> None:
    with pytest.raises(ParseError):
        read("choice", reply)


def test_half_an_answer_is_never_passed_off_as_a_whole() -> None:
    with pytest.raises(ParseError, match="cut off"):
        read("json", '{"products": [{"cases": "4"}, {"cas', complete=False)
    assert read("json", '{"whole": 1}', complete=False) == {"answer": '{"whole": 1}'}


@pytest.mark.parametrize(
    "answer", ["B", "b", "B.", "(B)", "choiceB", "choice B", "B. b", "选项B", " B) b", "The answer is B", "答案：B"]
)
def test_a_choice_is_read_in_the_ways_models_write_it(answer: str) -> None:
    assert read("choice", json.dumps(CHOICE | {"answer": answer})) == CHOICE


def test_a_choice_given_as_its_text_is_that_option() -> None:
    options = {"choiceA": "a dog", "choiceB": "a cat", "choiceC": "Blue", "choiceD": "D"}
    for said, letter in (("a cat", "B"), ("a dog", "A"), ("Blue", "C")):
        assert read("choice", json.dumps(CHOICE | options | {"answer": said}))["answer"] == letter
    with pytest.raises(ParseError):
        read("choice", json.dumps(CHOICE | options | {"answer": "A and B"}))


@pytest.mark.parametrize("reader", ["json", "choice"])
def test_nesting_without_end_is_told(reader: str) -> None:
    with pytest.raises(ParseError):
        read(reader, "[" * 5000)


def test_a_question_cut_off_is_none() -> None:
    with pytest.raises(ParseError, match="cut off"):
        read("question", "What is the colour of the", complete=False)


def test_a_choice_is_repaired_and_taken_out_of_a_list() -> None:
    assert read("choice", f"```json\n[{json.dumps(CHOICE)[:-1]},}}]\n```") == CHOICE
    assert read("choice", json.dumps(CHOICE | {"choiceA": 3}))["choiceA"] == "3"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"answer": "E"}, "answer"),
        ({"answer": "Because"}, "answer"),
        ({"choiceC": "a"}, "two options are the same"),
        ({"choiceD": " "}, "choiceD"),
        ({"question": None}, "question"),
    ],
)
def test_a_choice_that_is_none_is_told(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ParseError, match=why):
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
def test_a_question_is_freed_of_what_stands_around_it(reply: str, question: str) -> None:
    assert read("question", reply) == {"question": question, "answer": ""}
