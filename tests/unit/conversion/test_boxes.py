"""Rows with boxes: written as the model writes them, and rejected with a reason if they cannot be right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vd100k import stages
from vd100k.config.run import Run
from vd100k.errors import ConfigError
from vd100k.io import jsonl
from vd100k.io.jsonl import read_rows

Row = dict[str, Any]
SIZE = (400, 200)
DOG = {"label": "dog", "box": [40, 20, 200, 100]}
CAT = {"label": 'a "cat"', "box": [100.5, 0, 400, 200]}
MODELS = {
    "thousandths-tokens": "model=qwen2-vl-2b",
    "resized-pixels-json": "model=qwen2.5-vl",
    "thousandths-json": "model.model_type=qwen3_vl",
}


@pytest.fixture
def convert(parsed: Callable[..., Run], tmp_path: Path) -> Callable[..., tuple[Any, Path]]:
    """Converts rows about one image, and returns the summary and the folder of the result."""
    Image.new("RGB", SIZE, "white").save(tmp_path / "a.png")

    def call(rows: list[Row], *overrides: str) -> tuple[Any, Path]:
        jsonl.write(tmp_path / "t.jsonl", [{"image": "a.png", "question": f"q{k}"} | row for k, row in enumerate(rows)])
        run = parsed(
            *("stage=convert", "task=grounding", "dataset=d", "tracking=none", f"output_dir={tmp_path / 'outputs'}"),
            *(f"stage.source={tmp_path / 't.jsonl'}", "stage.split_dataset_ratio=0", *overrides),
        )
        return stages.execute(run, tmp_path / "run", []), run.stage.folder

    return call


@pytest.mark.parametrize("notation", MODELS)
def test_boxes_are_written_for_each_family_and_format(
    convert: Callable[..., tuple[Any, Path]], notation: str, tmp_path: Path
) -> None:
    model = [MODELS[notation]] if notation != "thousandths-json" else ["model=qwen2-vl-2b", MODELS[notation]]
    _, folder = convert([{"boxes": [DOG, CAT]}], *model)
    (record,) = read_rows(folder / "train.jsonl")
    is_json = notation != "thousandths-tokens"
    assert record["objects"] == {
        "ref": ["dog", r"a \"cat\"" if is_json else 'a "cat"'],
        "bbox": [DOG["box"], CAT["box"]],
        "bbox_type": "real",
    }
    placeholders = record["messages"][-1]["content"]
    text = {
        "thousandths-tokens": "<ref-object><bbox>\n<ref-object><bbox>",
        "other": '```json\n[\n\t{"bbox_2d": <bbox>, "label": "<ref-object>"},\n'
        '\t{"bbox_2d": <bbox>, "label": "<ref-object>"}\n]\n```',
    }
    assert placeholders == text.get(notation, text["other"])
    _, folder = convert([{"boxes": [DOG, CAT]}], *model, "format=sharegpt")
    answer = json.loads((folder / "train.json").read_text())[0]["conversations"][1]["value"]
    written = {
        "thousandths-tokens": "<|object_ref_start|>dog<|object_ref_end|><|box_start|>(100,100),(500,500)<|box_end|>\n"
        '<|object_ref_start|>a "cat"<|object_ref_end|><|box_start|>(251,0),(1000,1000)<|box_end|>',
        # The image is resized to 392 x 196.
        "resized-pixels-json": '```json\n[\n\t{"bbox_2d": [39, 20, 196, 98], "label": "dog"},\n'
        '\t{"bbox_2d": [98, 0, 392, 196], "label": "a \\"cat\\""}\n]\n```',
        "thousandths-json": '```json\n[\n\t{"bbox_2d": [100, 100, 500, 500], "label": "dog"},\n'
        '\t{"bbox_2d": [251, 0, 1000, 1000], "label": "a \\"cat\\""}\n]\n```',
    }
    assert answer == written[notation]


def test_an_answer_without_boxes_is_read_as_the_model_writes(convert: Callable[..., tuple[Any, Path]]) -> None:
    answer = '[{"bbox_2d": [98, 49, 196, 147], "label": "dog"}]'
    _, folder = convert([{"answer": answer}, {"boxes": json.dumps([DOG])}, {"answer": "[]"}], "model=qwen2.5-vl")
    first, second, third = read_rows(folder / "train.jsonl")
    assert first["objects"]["bbox"] == [[100, 50, 200, 150]]
    assert second["objects"]["bbox"] == [DOG["box"]]
    assert "objects" not in third
    assert third["messages"][-1]["content"] == "```json\n[]\n```"


BAD: list[tuple[Row, str]] = [
    ({"boxes": [{"label": "dog", "box": [40, 20, 500, 100]}]}, "lies outside the image of 400 x 200 pixels"),
    ({"boxes": [{"label": "dog", "box": [200, 20, 40, 100]}]}, "are reversed"),
    ({"boxes": [{"label": "dog", "box": [40, 20, 40, 100]}]}, "has no area"),
    ({"boxes": [DOG, {"label": "dog"}]}, "the label “dog” has no box"),
    ({"boxes": [DOG, {"box": [1, 2, 3, 4]}]}, "box 2 has no label"),
    ({"boxes": {"dog": [1, 2, 3, 4]}}, "not a list"),
    ({"boxes": [{"label": "ant", "box": [10, 10, 10.1, 10.1]}]}, "“ant” is too small"),
    ({"answer": '[{"bbox_2d": [98, 49, 196, 147], "label": "dog"}, {"bbox_2d": [1, 2, 3, 4]'}, "has no label"),
    ({"answer": '[{"bbox_2d": [98, 49, 196, 147], "label": "dog"},'}, "the JSON is cut off"),
    ({"answer": "There is a dog."}, "it contains no JSON"),
    ({"answer": '[{"bbox_2d": [98, 49, 1960, 147], "label": "dog"}]'}, "lies outside the image"),
]


def test_a_bad_box_rejects_its_row_with_the_reason(convert: Callable[..., tuple[Any, Path]]) -> None:
    rows = [{"boxes": [DOG]}, *(row for row, _ in BAD)]
    summary, folder = convert(rows, "model=qwen2.5-vl")
    assert summary.metrics["rejected"] == {"bad_box": len(BAD)}
    for row, (_, told) in zip(read_rows(folder / "rejected.jsonl"), BAD, strict=True):
        assert row["reason"] == "bad_box"
        assert told in row["detail"]


def test_without_the_rule_a_row_with_a_bad_box_keeps_its_answer(convert: Callable[..., tuple[Any, Path]]) -> None:
    row = {"answer": "a dog", "boxes": [{"label": "dog", "box": [40, 20, 500, 100]}]}
    _, folder = convert([row], "model=qwen2.5-vl", "stage.rules.bad_box=false")
    (record,) = read_rows(folder / "train.jsonl")
    assert record["messages"][-1]["content"] == "a dog"
    assert "objects" not in record


def test_the_rows_of_other_tasks_may_have_a_column_called_boxes(convert: Callable[..., tuple[Any, Path]]) -> None:
    _, folder = convert([{"answer": "a dog", "boxes": 7}], "model=qwen2.5-vl", "task=details")
    (record,) = read_rows(folder / "train.jsonl")
    assert record["messages"][-1]["content"] == "a dog"


def test_pairs_have_both_answers_as_text(convert: Callable[..., tuple[Any, Path]], tmp_path: Path) -> None:
    worse = {"label": "dog", "box": [0, 0, 4000, 40]}
    row = {"id": "a.png", "image": "a.png", "question": "q0", "answer": "…", "boxes": [worse]}
    jsonl.write(tmp_path / "worse.jsonl", [row])
    pair = [{"id": "a.png", "boxes": [DOG], "answer": "-"}]
    _, folder = convert(pair, "model=qwen2-vl-2b", f"stage.rejected={tmp_path / 'worse.jsonl'}")
    (record,) = read_rows(folder / "train.jsonl")
    start = "<|object_ref_start|>dog<|object_ref_end|><|box_start|>"
    assert record["messages"][-1]["content"] == f"{start}(100,100),(500,500)<|box_end|>"
    assert record["rejected_response"] == f"{start}(0,0),(10000,200)<|box_end|>"


def test_a_model_whose_notation_is_unknown_is_refused(convert: Callable[..., tuple[Any, Path]]) -> None:
    with pytest.raises(ConfigError, match=r"set\s+model\.box_notation=thousandths-json"):
        convert([{"boxes": [DOG]}], "model=gpt-4o")
