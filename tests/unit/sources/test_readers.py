"""The sources that convert reads."""

from __future__ import annotations

import io
import json
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import command_line, draw_pictures
from vd100k import stages
from vd100k.config.run import Run
from vd100k.errors import DataError
from vd100k.io.jsonl import read_rows

Convert = Callable[..., tuple[dict[str, Any], Path]]


@pytest.fixture
def convert(parsed: Callable[..., Run], tmp_path: Path) -> Convert:
    def call(*overrides: str) -> tuple[dict[str, Any], Path]:
        run = parsed("stage=convert", "dataset=d", "model=qwen2-vl-2b", f"output_dir={tmp_path / 'out'}", *overrides)
        return stages.execute(run, tmp_path / "run", []).counts, run.stage.folder

    return call


def test_a_roboflow_folder_keeps_its_splits(convert: Convert, tmp_path: Path) -> None:
    for split, count in (("train", 4), ("valid", 2), ("test", 3)):
        folder = draw_pictures(tmp_path / "labels" / split, count, seed=count)
        rows = [
            {"image": f"{k:02d}.png", "prefix": "<JSON>", "suffix": json.dumps({"dock": f"D{k}"})} for k in range(count)
        ]
        rows.append({"image": "00.png", "prefix": "<JSON>", "suffix": ""})
        text = "\n".join(map(json.dumps, rows))
        (folder / "annotations.jsonl").write_text(text, encoding="utf-8")
    counts, folder = convert("task=manifest", f"stage.source={tmp_path / 'labels'}")
    assert counts == {"rows": 12, "train": 4, "val": 2, "test": 3, "rejected": 3}
    row = next(read_rows(folder / "test.jsonl"))
    assert row["images"] == [str(tmp_path / "labels/test/00.png")]
    assert [m["content"] for m in row["messages"][1:]] == ["<image>Extract the data as JSON.", '{"dock": "D0"}']
    assert {row["reason"] for row in read_rows(folder / "rejected.jsonl")} == {"empty"}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_table_with_configured_columns_is_converted(convert: Convert, tmp_path: Path, suffix: str) -> None:
    folder = draw_pictures(tmp_path / "photos", 3)
    path = folder / f"table.{suffix}"
    if suffix == "csv":
        path.write_bytes(
            '\ufeffpicture,query,reply\n00.png,"a, b?",A\n01.png,q,"two\nlines"\n02.png,only\n'.encode()
            + b"02.png,\xff,C\n"
        )
    else:
        rows = [("00.png", "a, b?", "A"), ("01.png", "q", "two\nlines")]
        lines = [json.dumps(dict(zip(("picture", "query", "reply"), row, strict=True))) for row in rows]
        path.write_text("\n".join([*lines, "{", "[]"]), encoding="utf-8")
    columns = ["stage.columns.image=picture", "stage.columns.question=query", "stage.columns.answer=reply"]
    counts, folder = convert(f"stage.source={path}", *columns)
    assert (counts["train"], counts["rejected"]) == (2, 2)
    assert [row["messages"][-1]["content"] for row in read_rows(folder / "train.jsonl")] == ["A", "two\nlines"]
    assert {row["reason"] for row in read_rows(folder / "rejected.jsonl")} == {"bad_line"}


def test_a_hugging_face_data_set_on_disk_is_converted(convert: Convert, tmp_path: Path) -> None:
    import datasets

    folder = draw_pictures(tmp_path / "photos", 4)
    images = sorted(map(str, folder.glob("*.png")))
    columns = {"image": images, "question": ["q"] * 4, "answer": ["a", "b", "c", "d"]}
    rows = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    embedded = rows.map(lambda row: row, batched=True)
    datasets.DatasetDict(train=embedded.select(range(3)), validation=embedded.select([3])).save_to_disk(tmp_path / "hf")
    counts, made = convert(f"stage.source={tmp_path / 'hf'}")
    assert (counts["train"], counts["val"], counts["rejected"]) == (3, 1, 0)
    row = next(read_rows(made / "train.jsonl"))
    assert Path(row["images"][0]).read_bytes() == Path(images[0]).read_bytes()
    # Image names in the data refer to files next to it.
    draw_pictures(tmp_path / "hf/photos", 4)
    named = {**columns, "image": [f"photos/0{k}.png" for k in range(4)]}
    datasets.Dataset.from_dict(named).save_to_disk(tmp_path / "hf")
    (tmp_path / "hf/dataset_dict.json").unlink()
    assert convert(f"stage.source={tmp_path / 'hf'}")[0]["rejected"] == 0


def test_images_outside_the_image_folder_are_not_read(convert: Convert, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "photos", 2)
    secret = draw_pictures(tmp_path / "secret", 1) / "00.png"
    (folder / "link.png").symlink_to(secret)
    named = ["00.png", str(folder / "01.png"), "../secret/00.png", str(secret), "link.png"]
    path = folder / "rows.jsonl"
    path.write_text(
        "\n".join(json.dumps({"image": name, "question": "q", "answer": "a"}) for name in named), encoding="utf-8"
    )
    for checks in ([], ["stage.rules.image_unreadable=false", "stage.rules.image_small=false"]):
        counts, made = convert(f"stage.source={path}", *checks)
        assert (counts["train"], counts["rejected"]) == (2, 3)
        assert {row["reason"] for row in read_rows(made / "rejected.jsonl")} == {"image_outside"}


def test_an_unsupported_source_is_an_error_that_lists_the_supported_ones(convert: Convert, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="Roboflow folder"):
        convert(f"stage.source={tmp_path / 'empty'}")
    (tmp_path / "broken.parquet").write_text("no", encoding="utf-8")
    with pytest.raises(DataError, match="the data set cannot be read"):
        convert(f"stage.source={tmp_path / 'broken.parquet'}")


def test_a_configured_column_replaces_one_with_the_default_name(convert: Convert, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "photos", 1)
    (folder / "t.csv").write_text("image,question,reply,answer\n00.png,q,right,wrong\n", encoding="utf-8")
    _, made = convert(f"stage.source={folder / 't.csv'}", "stage.columns.answer=reply")
    assert next(read_rows(made / "train.jsonl"))["messages"][-1]["content"] == "right"


def test_a_table_keeps_its_own_splits(convert: Convert, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "photos", 3)
    splits = enumerate(["train", "test", "validation"])
    rows = [{"image": f"0{k}.png", "question": "q", "answer": "a", "split": split} for k, split in splits]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    counts, _ = convert(f"stage.source={folder / 't.jsonl'}")
    assert counts == {"rows": 3, "train": 1, "val": 1, "test": 1, "rejected": 0}


def test_an_open_quote_does_not_swallow_later_answers(convert: Convert, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "photos", 3)
    (folder / "t.csv").write_text('image,question,answer\n00.png,q,a\n01.png,q,"torn\n02.png,q,c\n', encoding="utf-8")
    counts, made = convert(f"stage.source={folder / 't.csv'}")
    assert (counts["train"], counts["rejected"]) == (1, 1)
    rejected = next(read_rows(made / "rejected.jsonl"))
    assert (rejected["line"], rejected["reason"]) == (3, "bad_line")
    (folder / "t.csv").write_bytes("image,question,answer,备注\n".encode("gbk"))
    with pytest.raises(DataError, match="the first line"):
        convert(f"stage.source={folder / 't.csv'}")


def test_a_very_long_image_name_and_a_deeply_nested_answer_do_not_end_the_run(convert: Convert, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "photos", 1)
    nested = json.loads("[" * 900 + "]" * 900)
    rows = [("00.png", "a"), ("x" * 300 + ".png", "a"), ("00.png", nested)]
    lines = [json.dumps({"image": image, "question": "q", "answer": answer}) for image, answer in rows]
    (folder / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    counts, _ = convert(f"stage.source={folder / 't.jsonl'}", "task.reader=json", "stage.rules.not_json=false")
    assert counts["rows"] == 3


def test_an_image_that_did_not_fit_on_the_disk_is_unpacked_again(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the first image fits, the second does not."""
    import datasets

    stored = []
    for name, side in (("small", 60), ("large", 300)):
        buffer = io.BytesIO()
        Image.frombytes("RGB", (side, side), random.Random(1).randbytes(3 * side * side)).save(buffer, "PNG")
        stored.append({"bytes": buffer.getvalue(), "path": f"{name}.png"})
    text = datasets.Value("string")
    features = datasets.Features({"image": datasets.Image(), "question": text, "answer": text})
    columns = {"image": stored, "question": ["q"] * 2, "answer": ["a", "b"]}
    datasets.Dataset.from_dict(columns, features).to_parquet(tmp_path / "rows.parquet")
    convert = command_line("stage=convert", "dataset=d", f"stage.source={tmp_path / 'rows.parquet'}")
    limited = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", *convert]  # KiB
    failed = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    done = subprocess.run(convert, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    unpacked = next(tmp_path.glob("outputs/data/d/*/*/images"))
    originals = sorted(image["bytes"] for image in stored)
    assert sorted(path.read_bytes() for path in unpacked.iterdir()) == originals
    assert "2 train, 0 val, 0 rejected" in done.stdout


def test_stored_images_of_unusual_types_cost_only_their_rows(convert: Convert, tmp_path: Path) -> None:
    """An image column that datasets does not know as images: a structure of text, and names with odd suffixes."""
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    Image.new("RGB", (56, 56), (1, 2, 3)).save(buffer, "PNG")
    images = [{"bytes": buffer.getvalue(), "path": name} for name in ("a.png", "b.\0", "c." + "x" * 300, None)]
    table = {"image": images, "question": list("pqrs"), "answer": list("abcd")}
    parquet.write_table(pyarrow.table(table), tmp_path / "rows.parquet")
    assert convert(f"stage.source={tmp_path / 'rows.parquet'}")[0]["train"] == 4
    table["image"] = [{"bytes": "text", "path": "a.png"}] * 4
    parquet.write_table(pyarrow.table(table), tmp_path / "texts.parquet")
    with pytest.raises(DataError, match="4 image_missing"):
        convert(f"stage.source={tmp_path / 'texts.parquet'}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "t.csv",
            "file,caption\n00.png,a\n",
            r"t\.csv, line 1: no column image or images; columns found: file, caption\.",
        ),
        (
            "t.csv",
            "image,caption\n00.png,a\n",
            "line 1: no column answer or suffix or boxes; columns found: image, caption",
        ),
        (
            "t.jsonl",
            '{"file": "00.png", "answer": "a"}\n',
            "Its columns are file, answer: set stage.columns.image=NAME",
        ),
    ],
)
def test_a_table_without_a_column_names_the_columns_it_has(
    convert: Convert, tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = draw_pictures(tmp_path / "photos", 1) / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        convert(f"stage.source={path}")


@pytest.mark.parametrize(("language", "question"), [("en", "Describe this image."), ("zh", "请描述这张图片。")])
@pytest.mark.parametrize("task", ["details", "vqa"])
def test_rows_without_a_question_get_that_of_the_task_in_its_language(
    convert: Convert, tmp_path: Path, task: str, language: str, question: str
) -> None:
    path = draw_pictures(tmp_path / "photos", 1) / "t.csv"
    path.write_text("image,answer\n00.png,red\n", encoding="utf-8")
    _, folder = convert(f"stage.source={path}", f"task={task}", f"task.language={language}")
    (row,) = read_rows(folder / "train.jsonl")
    assert row["messages"][-2]["content"] == f"<image>{question}"


@pytest.mark.parametrize("task", ["answer", "question", "choice"])
def test_a_prompt_that_is_no_question_about_the_image_becomes_none(convert: Convert, tmp_path: Path, task: str) -> None:
    path = draw_pictures(tmp_path / "photos", 1) / "t.csv"
    path.write_text("image,answer\n00.png,red\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column question; columns found: image, answer"):
        convert(f"stage.source={path}", f"task={task}")


def test_an_empty_validation_side_says_which_share_would_fill_it(
    convert: Convert, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = draw_pictures(tmp_path / "photos", 5) / "t.csv"
    path.write_text("image,answer\n00.png,blue\n04.png,green\n", encoding="utf-8")
    counts, _ = convert(f"stage.source={path}")
    assert counts["val"] == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "No row is held out" in shown
    remedy = re.search(r"Set (stage\.split_dataset_ratio=\S+) to hold out some", shown)
    assert remedy
    counts, _ = convert(f"stage.source={path}", remedy[1])
    assert counts["val"] >= 1
    assert counts["train"] >= 1
    convert(f"stage.source={path}", "stage.split_dataset_ratio=0")
    assert "No row is held out" not in capsys.readouterr().out.split("rejected")[-1]
