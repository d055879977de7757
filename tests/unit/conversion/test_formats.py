"""The records of every format: no field is lost, and each image has one tag."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.conversion import formats

text = st.text(min_size=1).filter(lambda text: "<image>" not in text)
rows = st.fixed_dictionaries(
    {"id": text, "question": text, "answer": text, "image": text, "name": text},
    optional={"rejected": text, "model": text},
)
systems = st.one_of(st.none(), st.text(min_size=1))


@given(rows, systems)
def test_a_swift_record_has_every_field_of_the_row(row: dict[str, str], system: str | None) -> None:
    record = formats.swift(row, system)
    *before, user, assistant = record["messages"]
    assert [m["content"] for m in before] == ([system] if system else [])
    assert user == {"role": "user", "content": "<image>" + row["question"]}
    assert assistant == {"role": "assistant", "content": row["answer"]}
    assert record["images"] == [row["image"]]
    assert record.get("rejected_response") == row.get("rejected")


@given(rows, systems, st.sampled_from([formats.sharegpt, formats.published]))
def test_a_conversation_record_has_every_field_of_the_row(
    row: dict[str, str], system: str | None, layout: formats.Layout
) -> None:
    record, pairs = layout(row, system), "rejected" in row
    images = "images" if layout is formats.sharegpt else "image"
    entry = formats.dataset_info("d", "f.json", images, "system" in record, pairs)["d"]
    assert set(entry["columns"].values()) == set(record) - {"id"}, (
        "LLaMA-Factory ignores columns that the entry does not name"
    )
    human = record["conversations"][0]
    assert human["value"].removeprefix("<image>") in (row["question"], "\n" + row["question"])
    if pairs:
        assert entry["ranking"]
        assert (record["chosen"]["value"], record["rejected"]["value"]) == (row["answer"], row["rejected"])
        assert len(record["conversations"]) == 1, "the conversation of a pair is the human turn alone"
    else:
        assert record["conversations"][1] == {"from": "gpt", "value": row["answer"]}
    assert (record.get("system") or None) == system


def test_an_existing_image_tag_is_not_added_again() -> None:
    row = {"id": "a", "image": "a", "question": "<image>\nWhat?", "answer": "A"}
    assert formats.turns(row) == [("<image>\nWhat?", "A")]


@pytest.mark.parametrize("layout", [formats.swift, formats.rows, formats.parquet])
def test_a_multiple_choice_question_keeps_its_options(layout: formats.Layout) -> None:
    options = {f"choice{letter}": f"o{letter}" for letter in "ABCD"}
    row: dict[str, Any] = {"id": "a", "image": "a.png", "question": "Which?", **options, "answer": "B"}
    record = layout(row, None)
    if layout is formats.swift:
        assert record["messages"][0]["content"] == "<image>Which?\nA. oA\nB. oB\nC. oC\nD. oD"
    else:
        assert {key: record[key] for key in options} == options


def test_answer_sets_and_training_files_have_the_published_fields() -> None:
    row = {"id": "a.png", "image": "/x/a.png", "name": "a.png", "question": "Q", "answer": "A", "model": "m"}
    assert formats.rows(row, None) == {"id": "a.png", "question": "Q", "answer": "A"}
    assert formats.published(row, None) == {
        "id": "a.png",
        "image": "a.png",
        "conversations": [{"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "A"}],
    }
