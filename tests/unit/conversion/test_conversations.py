"""Rows with several images, several turns, or no image, through stage=convert."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import draw_pictures
from vd100k import stages
from vd100k.config.run import Run
from vd100k.conversion.conversations import unpack
from vd100k.conversion.filters import RejectedRow
from vd100k.errors import ConfigError
from vd100k.io.jsonl import read_rows, write

Row = dict[str, Any]
Convert = Callable[..., tuple[dict[str, Any], Path]]


@pytest.fixture
def convert(parsed: Callable[..., Run], tmp_path: Path) -> Convert:
    """Returns a function that converts rows about four pictures, a.png to d.png."""
    folder = draw_pictures(tmp_path / "pictures", 4)
    for k, name in enumerate("abcd"):
        (folder / f"{k:02d}.png").rename(folder / f"{name}.png")

    def call(rows: list[Row], *overrides: str) -> tuple[dict[str, Any], Path]:
        write(tmp_path / "rows.jsonl", rows)
        run = parsed(
            *("stage=convert", "dataset=d", "model=qwen2-vl-2b", f"stage.source={tmp_path / 'rows.jsonl'}"),
            *(f"image_folder={folder}", f"output_dir={tmp_path / 'out'}", "stage.split_dataset_ratio=0", *overrides),
        )
        return stages.execute(run, tmp_path / "run", []).counts, run.stage.folder

    return call


def rejected(folder: Path) -> list[tuple[str, str]]:
    return [(row["reason"], row["detail"]) for row in read_rows(folder / "rejected.jsonl")]


def pair(*names: str, **fields: Any) -> Row:
    return {"images": list(names), "question": "What changed?", "answer": "The colour.", **fields}


def single(name: str, question: str, answer: str, **fields: Any) -> Row:
    return {"id": name, "image": name, "question": question, "answer": answer, **fields}


def contents(record: Row) -> list[str]:
    return [message["content"] for message in record["messages"] if message["role"] != "system"]


def stems(paths: list[str]) -> list[str]:
    return [Path(path).stem for path in paths]


def test_a_row_has_as_many_tags_as_images_in_their_order(convert: Convert) -> None:
    inline = pair("c.png", "d.png", "a.png", question="<image> or <image> or <image>?")
    counts, folder = convert([pair("b.png", "a.png"), inline, single("a.png", "What?", "Red.")])
    assert counts == {"rows": 3, "train": 3, "val": 0, "rejected": 0}
    first, second, third = read_rows(folder / "train.jsonl")
    assert (stems(first["images"]), contents(first)) == (["b", "a"], ["<image><image>What changed?", "The colour."])
    assert (stems(second["images"]), contents(second)[0]) == (["c", "d", "a"], "<image> or <image> or <image>?")
    assert (stems(third["images"]), contents(third)[0]) == (["a"], "<image>What?")


def test_a_group_with_a_bad_image_is_rejected_and_the_image_named(convert: Convert, tmp_path: Path) -> None:
    (tmp_path / "pictures/broken.png").write_bytes(b"nothing")
    rows = [
        pair("a.png", "b.png"),
        pair("a.png", "broken.png"),
        pair("gone.png", "a.png"),
        pair("a.png", "../rows.jsonl"),
        pair("c.png", "d.png", question="Only <image>?"),
        pair("a.png", ""),
        pair("c.png", "d.png", images_sha256=["0" * 64, "0" * 64], images_mtime_ns=[1, 1]),
        pair("b.png", "a.png"),
        pair("a.png", "b.png"),
    ]
    counts, folder = convert(rows)
    assert (counts["train"], counts["rejected"]) == (2, 7)
    found = dict(rejected(folder))
    assert list(found) == [
        *(
            "image_unreadable",
            "image_missing",
            "image_outside",
            "image_tags",
            "incomplete",
            "image_changed",
            "duplicate",
        )
    ]
    assert "broken.png" in found["image_unreadable"]
    assert "gone.png" in found["image_missing"]
    assert "c.png" in found["image_changed"]


@pytest.mark.parametrize("name", ["sharegpt", "vd100k", "parquet"])
def test_every_format_holds_all_images_of_a_row(convert: Convert, name: str) -> None:
    rows = [pair("b.png", "a.png"), single("a.png", "What?", "Red.")]
    counts, folder = convert(rows, f"format={name}")
    assert counts["train"] == 2
    if name == "parquet":
        import datasets

        table = datasets.load_dataset(str(folder), cache_dir=str(folder / "cache"))["train"]
        assert [len(row["images"]) for row in table] == [2, 1]
        assert table[0]["images"][0].size == (56, 56)
        return
    first, second = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    key = "images" if name == "sharegpt" else "image"
    assert (stems(first[key]), stems(second[key])) == (["b", "a"], ["a"])
    assert first["conversations"][0]["value"].count("<image>") == 2


@pytest.mark.parametrize("name", ["vd100k", "parquet"])
def test_a_late_group_is_rejected_where_the_column_holds_one_image(convert: Convert, name: str) -> None:
    rows = [single("a.png", f"q{k}", "Red.") for k in range(60)] + [pair("b.png", "a.png")]
    counts, folder = convert(rows, f"format={name}", "stage.rules.near_duplicate=false")
    assert counts["train"] == 60
    [(reason, detail)] = rejected(folder)
    assert reason == "number_of_images"
    assert "format=swift" in detail


def test_rows_of_an_image_become_one_conversation(convert: Convert) -> None:
    rows = [
        single("a.png", "What is it?", "A square."),
        single("b.png", "What is it?", "A circle."),
        single("a.png", "<image>\nWhich colour?", "Red."),
        single("a.png", "Why?", ""),
        single("a.png", "Where?", "In the middle."),
    ]
    counts, folder = convert(rows, "stage.turns=merge")
    assert counts == {"rows": 5, "train": 2, "val": 0, "joined": 2, "rejected": 1}
    first, second = read_rows(folder / "train.jsonl")
    assert stems(first["images"]) == ["a"]
    assert contents(first) == [
        *("<image>What is it?", "A square.", "Which colour?", "Red.", "Where?", "In the middle.")
    ]
    assert contents(second) == ["<image>What is it?", "A circle."]
    counts, folder = convert(rows, "stage.turns=merge", "format=sharegpt")
    [first, _] = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    assert [turn["from"] for turn in first["conversations"]] == ["human", "gpt"] * 3


def test_a_long_conversation_is_split_and_nothing_dropped(convert: Convert, whole_model: Path) -> None:
    rows = [single("a.png", f"question {k}", f"answer {k} " * 20) for k in range(12)]
    model = ["model=tiny-student", f"model.path={whole_model}", "stage.rules.repetition=false"]
    counts, folder = convert(rows, "stage.turns=merge", "max_length=600", *model)
    records = list(read_rows(folder / "train.jsonl"))
    assert 1 < len(records) < 12
    assert counts["train"] + counts["joined"] == 12
    asked = [text.removeprefix("<image>") for record in records for text in contents(record)[::2]]
    assert asked == [f"question {k}" for k in range(12)]
    assert all(contents(record)[0].startswith("<image>") for record in records)


@pytest.mark.parametrize("turn", [None, "1", [], {}, True])
def test_a_turn_without_a_number_costs_one_row(convert: Convert, turn: object) -> None:
    rows = [single("a.png", "q1", "a1", turn=1), single("a.png", "q2", "a2", turn=turn)]
    counts, folder = convert(rows)
    assert counts == {"rows": 2, "train": 1, "val": 0, "rejected": 1}
    assert [reason for reason, _ in rejected(folder)] == ["bad_conversation"]


def test_turns_that_were_asked_together_stay_together(convert: Convert) -> None:
    rows = [single("a.png", f"q{turn}", f"a{turn}", turn=turn) for turn in (1, 3, 2)]
    rows += [single("b.png", f"q{turn}", "" if turn == 2 else "a", turn=turn) for turn in (1, 2, 3)]
    counts, folder = convert(rows)
    first, second = read_rows(folder / "train.jsonl")
    assert contents(first) == ["<image>q1", "a1", "q2", "a2", "q3", "a3"]
    assert contents(second) == ["<image>q1", "a"]
    assert dict(rejected(folder)).keys() == {"empty", "earlier_turn"}
    assert counts == {"rows": 6, "train": 2, "val": 0, "joined": 2, "rejected": 2}


def said(*roles: str) -> list[Row]:
    return [{"role": role, "content": f"text {k}"} for k, role in enumerate(roles)]


def test_conversations_of_a_source_are_kept_or_rejected_with_a_reason(convert: Convert) -> None:
    rows = [
        {"image": "a.png", "messages": said("system", "user", "assistant", "user", "assistant")},
        {"image": "b.png", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"image": "c.png", "messages": said("assistant", "user")},
        {"image": "c.png", "messages": said("user", "user", "assistant")},
        {"image": "c.png", "messages": said("user", "assistant", "user")},
        {"image": "c.png", "messages": said("user", "tool")},
        {"image": "c.png", "messages": []},
        {"image": "c.png", "messages": "Q"},
        {"image": "c.png", "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": " "}]},
    ]
    counts, folder = convert(rows)
    assert counts == {"rows": 9, "train": 2, "val": 0, "rejected": 7}
    first, second = read_rows(folder / "train.jsonl")
    assert [(m["role"], m["content"]) for m in first["messages"]] == [
        *(("system", "text 0"), ("user", "<image>text 1"), ("assistant", "text 2")),
        *(("user", "text 3"), ("assistant", "text 4")),
    ]
    assert contents(second) == ["<image>Q", "A"]
    reasons, details = zip(*rejected(folder), strict=True)
    assert reasons == (*("bad_conversation",) * 6, "empty")
    assert details[0] == "it begins with the assistant, where the user should be"


@given(st.lists(st.sampled_from(["user", "assistant", "system", "human", "gpt", "tool"]), max_size=6))
def test_a_conversation_alternates_or_is_rejected(roles: list[str]) -> None:
    row: Row = {"messages": said(*roles)}
    plain = ["user" if role == "human" else "assistant" if role == "gpt" else role for role in roles]
    body = plain[1:] if plain[:1] == ["system"] else plain
    usable = bool(body) and body == ["user", "assistant"] * (len(body) // 2)
    if usable:
        unpack(row)
        first = len(roles) - len(body)
        assert [text for turn in row["turns"] for text in turn] == [f"text {k}" for k in range(first, len(roles))]
    else:
        with pytest.raises(RejectedRow) as refused:
            unpack(row)
        assert refused.value.reason == "bad_conversation"


def test_rows_of_text_alone_are_rejected_mixed_or_kept_apart(convert: Convert) -> None:
    rows = [single("a.png", "What?", "Red."), {"question": "2 + 2?", "answer": "4"}, {"question": "3?", "answer": "9"}]
    counts, folder = convert(rows)
    assert (counts["train"], [reason for reason, _ in rejected(folder)]) == (1, ["incomplete"] * 2)
    counts, folder = convert(rows, "stage.text_rows=mixed")
    assert counts["train"] == 3
    records = list(read_rows(folder / "train.jsonl"))
    assert contents(records[1]) == ["2 + 2?", "4"]
    assert "images" not in records[1]
    counts, folder = convert(rows, "stage.text_rows=apart")
    assert counts == {"rows": 3, "train": 1, "val": 0, "train.text": 2, "rejected": 0}
    assert [contents(record)[0] for record in read_rows(folder / "train.text.jsonl")] == ["2 + 2?", "3?"]
    assert not (folder / "val.text.jsonl").exists()


def test_combinations_that_cannot_work_are_refused(parsed: Callable[..., Run]) -> None:
    for overrides, named in (
        (["stage.turns=merge", "format=parquet"], "format=swift"),
        (["stage.turns=merge", "rejected=other"], "preference pairs"),
        (["stage.text_rows=apart", "format=parquet"], "stage.text_rows"),
    ):
        with pytest.raises(ConfigError, match=named):
            parsed("stage=convert", "dataset=d", "answers=m", *overrides)
