"""Rows in, trainers' lines out: nothing lost, one tag an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import draw_pictures
from vd100k import formats, stages
from vd100k.config import Run
from vd100k.errors import DataError
from vd100k.records import read, write_lines

rows = st.fixed_dictionaries(
    {"question": st.text(min_size=1), "answer": st.text(min_size=1), "image": st.text(min_size=1)}
)
systems = st.one_of(st.none(), st.text(min_size=1))


@given(rows, systems)
def test_swift_carries_everything(row: dict[str, str], system: str | None) -> None:
    line = formats.swift(row, system)
    *before, user, assistant = line["messages"]
    assert [m["content"] for m in before] == ([system] if system else [])
    assert user == {"role": "user", "content": "<image>" + row["question"]}
    assert assistant == {"role": "assistant", "content": row["answer"]}
    assert line["images"] == [row["image"]]


@given(rows, systems)
def test_sharegpt_carries_everything(row: dict[str, str], system: str | None) -> None:
    line = formats.sharegpt(row, system)
    columns = formats.dataset_info("d", "f.json")["d"]["columns"]
    assert set(columns.values()) == set(line), "a column the entry leaves out is lost when it is loaded"
    human, gpt = line["conversations"]
    assert (human["value"], gpt["value"]) == ("<image>" + row["question"], row["answer"])
    assert line["system"] == (system or "")


@pytest.fixture
def generated(tmp_path: Path) -> Callable[..., Path]:
    """Write rows for pictures, changed where ``change`` says so."""
    folder = draw_pictures(tmp_path / "pictures", 40)

    def write(change: Callable[[int, dict[str, Any]], dict[str, Any]] = lambda k, row: row) -> Path:
        path = tmp_path / "outputs/data/pictures/details/m.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        made = [
            {"id": p.name, "image": str(p), "question": "q", "answer": f"a{k}", "model": "m", "finish_reason": "stop"}
            for k, p in enumerate(sorted(folder.iterdir()))
        ]
        write_lines(path, [change(k, row) for k, row in enumerate(made)])
        return path

    return write


def convert(parsed: Callable[..., Run], tmp_path: Path, *overrides: str) -> Any:
    run = parsed(
        "stage=convert",
        "dataset=pictures",
        "answers=m",
        "tracking=none",
        f"output_dir={tmp_path / 'outputs'}",
        *overrides,
    )
    return stages.execute(run, tmp_path / "run", []), run.stage.folder


def test_a_split_is_by_image_and_loses_none(
    parsed: Callable[..., Run], tmp_path: Path, generated: Callable[..., Path]
) -> None:
    generated()
    summary, folder = convert(parsed, tmp_path, "stage.split_dataset_ratio=0.3")
    sides = {side: {line["images"][0] for line in read(folder / f"{side}.jsonl")} for side in ("train", "val")}
    assert len(sides["train"]) + len(sides["val"]) == 40
    assert not sides["train"] & sides["val"]
    assert sides["val"]
    assert summary.counts == {"train": len(sides["train"]), "val": len(sides["val"]), "rejected": 0}


def test_bad_rows_are_kept_aside_with_reasons(
    parsed: Callable[..., Run], tmp_path: Path, generated: Callable[..., Path]
) -> None:
    broken = tmp_path / "text.jpg"
    broken.write_text("no image", encoding="utf-8")
    faults = {
        0: ("image_unreadable", {"image": str(broken)}),
        1: ("image_unreadable", {"image": str(tmp_path / "gone.png")}),
        2: ("truncated", {"finish_reason": "length"}),
        3: ("image_tag", {"answer": "an <image> tag"}),
        4: ("incomplete", {"answer": ""}),
    }
    generated(lambda k, row: row | (faults[k][1] if k in faults else {}))
    _, folder = convert(parsed, tmp_path)
    rejected = {row["id"]: row["reason"] for row in read(folder / "rejected.jsonl")}
    assert list(rejected.values()) == [reason for reason, _ in faults.values()]


def test_json_tasks_take_json_alone(parsed: Callable[..., Run], tmp_path: Path, generated: Callable[..., Path]) -> None:
    generated(lambda k, row: row | {"answer": '{"n": 1}' if k else "{oops"})
    summary, _ = convert(parsed, tmp_path, "task.reader=json")
    assert summary.counts["rejected"] == 1


def test_nothing_to_train_on_is_an_error(
    parsed: Callable[..., Run], tmp_path: Path, generated: Callable[..., Path]
) -> None:
    generated(lambda k, row: row | {"answer": ""})
    with pytest.raises(DataError, match="40 incomplete"):
        convert(parsed, tmp_path)
    with pytest.raises(DataError, match="stage=generate"):
        convert(parsed, tmp_path, "answers=nobody")
