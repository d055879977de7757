"""The stage convert: every row is either written or rejected with a reason, for any input."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import draw_pictures
from vd100k import stages
from vd100k.config.run import Run
from vd100k.errors import DataError
from vd100k.io import jsonl
from vd100k.io.jsonl import read_rows

Row = dict[str, Any]
Write = Callable[..., Path]


@pytest.fixture
def generated(tmp_path: Path) -> Write:
    """Returns a function that writes one generated row for each of 40 images, modified by ``change``."""
    folder = draw_pictures(tmp_path / "pictures", 40)

    def write(change: Callable[[int, Row], Row] = lambda k, row: row, name: str = "m") -> Path:
        path = tmp_path / f"outputs/data/pictures/details/{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        made = [
            {"id": p.name, "image": str(p), "question": "q", "answer": f"a{k}", "model": name, "finish_reason": "stop"}
            for k, p in enumerate(sorted(folder.glob("*.png")))
        ]
        jsonl.write(path, [change(k, row) for k, row in enumerate(made)])
        return path

    return write


def convert(parsed: Callable[..., Run], tmp_path: Path, *overrides: str) -> Any:
    run = parsed(
        "stage=convert",
        "dataset=pictures",
        "answers=m",
        "tracking=none",
        "model=qwen2-vl-2b",
        f"output_dir={tmp_path / 'outputs'}",
        *overrides,
    )
    return stages.execute(run, tmp_path / "run", []), run.stage.folder


def rejected(folder: Path) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in read_rows(folder / "rejected.jsonl")}


def test_the_split_is_by_image_and_loses_no_row(parsed: Callable[..., Run], tmp_path: Path, generated: Write) -> None:
    path = generated()
    jsonl.write(path, [row | {"question": f"q{k}"} for row in read_rows(path) for k in range(3)])
    summary, folder = convert(parsed, tmp_path, "stage.split_dataset_ratio=0.3")
    sides = {side: [line["images"][0] for line in read_rows(folder / f"{side}.jsonl")] for side in ("train", "val")}
    assert len(sides["train"]) + len(sides["val"]) == 120
    assert not set(sides["train"]) & set(sides["val"])
    assert sides["val"]
    assert summary.counts == {"rows": 120, "train": len(sides["train"]), "val": len(sides["val"]), "rejected": 0}
    again, _ = convert(parsed, tmp_path, "stage.split_dataset_ratio=0.3")
    assert again.outputs == summary.outputs, "the split depends only on the seed"


FAULTS: dict[str, Row] = {
    "image_unreadable": {"image": "odd/text.jpg"},
    "image_missing": {"image": "gone.png"},
    "image_small": {"image": "odd/small.png"},
    "image_changed": {"image_sha256": "0" * 64},
    "truncated": {"finish_reason": "length"},
    "image_tags": {"answer": "an <image> tag"},
    "empty": {"answer": " "},
    "repetition": {"answer": "!" * 40 + " \n"},
    "echo": {"answer": " Q? "},
    "refusal": {"answer": "I'm sorry, but I can't help with that."},
    "too_long": {"answer": " ".join(map(str, range(5000)))},
}


def with_faults(tmp_path: Path) -> Callable[[int, Row], Row]:
    """A function that gives each of the first rows one fault; also writes the bad images."""
    from PIL import Image

    odd = tmp_path / "pictures/odd"
    odd.mkdir()
    (odd / "text.jpg").write_text("no image", encoding="utf-8")
    Image.new("RGB", (20, 300)).save(odd / "small.png")
    faults = list(FAULTS.values())
    return lambda k, row: row | ({"question": "q?"} | faults[k] if k < len(faults) else {})


def test_bad_rows_are_rejected_with_their_reasons(parsed: Callable[..., Run], tmp_path: Path, generated: Write) -> None:
    generated(with_faults(tmp_path))
    images = f"images={tmp_path / 'pictures'}"
    tokenizer = tiny_tokenizer(tmp_path)
    summary, folder = convert(parsed, tmp_path, images, tokenizer)
    assert list(rejected(folder).values()) == list(FAULTS)
    assert summary.metrics["rejected"] == dict.fromkeys(FAULTS, 1)
    kept = next(read_rows(folder / "rejected.jsonl"))
    assert kept["line"] == 1
    assert kept["row"]["image"] == "odd/text.jpg"
    assert "not an image" in kept["detail"]


@pytest.mark.parametrize("rule", list(FAULTS))
def test_each_rule_can_be_turned_off(parsed: Callable[..., Run], tmp_path: Path, generated: Write, rule: str) -> None:
    generated(with_faults(tmp_path))
    off = [f"stage.rules.{rule}=false", f"images={tmp_path / 'pictures'}", tiny_tokenizer(tmp_path)]
    _, folder = convert(parsed, tmp_path, *off)
    assert set(FAULTS) - set(rejected(folder).values()) == {rule}


def tiny_tokenizer(tmp_path: Path) -> str:
    from vd100k.tiny import checkpoint

    checkpoint.save_tokenizer(tmp_path)
    return f"model.path={tmp_path}"


def test_duplicates_are_found_at_any_distance(parsed: Callable[..., Run], tmp_path: Path, generated: Write) -> None:
    path = generated()
    rows = list(read_rows(path))
    near = [rows[5] | {"question": " Ｑ？"}]
    jsonl.write(path, [*rows, rows[0], *near, rows[0] | {"id": "copy.png", "image_sha256": "x"}, rows[0]])
    recorded = "stage.rules.image_changed=false"  # the hash of the copy is made up
    summary, folder = convert(parsed, tmp_path, recorded, "stage.split_dataset_ratio=0")
    assert summary.metrics["rejected"] == {"duplicate": 2, "near_duplicate": 1}
    assert [row["line"] for row in read_rows(folder / "rejected.jsonl")] == [41, 42, 44]
    summary, _ = convert(parsed, tmp_path, recorded, "stage.rules.near_duplicate=false")
    assert summary.metrics["rejected"] == {"duplicate": 2}
    summary, _ = convert(parsed, tmp_path, recorded, "stage.rules.near_duplicate=false", "stage.rules.duplicate=false")
    assert summary.counts["rejected"] == 0


def test_bad_lines_are_rejected_with_their_line_numbers(
    parsed: Callable[..., Run], tmp_path: Path, generated: Write
) -> None:
    path = generated()
    lines = path.read_bytes().splitlines(keepends=True)
    outside = orjson.dumps({"id": "../x.png", "image": "../x.png", "question": "q", "answer": "a"})
    lines[3:3] = [b"\n", b'{"id": "a", "answer": "\xff"}\n', b"[1, 2]\n", outside + b"\n", b'{"question": 1}\n']
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(lines) + b'{"id": "torn')
    summary, folder = convert(parsed, tmp_path)
    kept = [(row["line"], row["reason"]) for row in read_rows(folder / "rejected.jsonl")]
    assert kept == [(5, "bad_line"), (6, "bad_line"), (7, "image_outside"), (8, "incomplete"), (46, "bad_line")]
    assert summary.counts["rows"] == 45
    assert summary.counts["train"] + summary.counts["val"] == 40


def test_a_json_task_rejects_answers_that_are_not_json(
    parsed: Callable[..., Run], tmp_path: Path, generated: Write
) -> None:
    generated(lambda k, row: row | {"answer": '{"n": 1}' if k else "{oops"})
    summary, _ = convert(parsed, tmp_path, "task.reader=json")
    assert summary.metrics["rejected"] == {"not_json": 1}


def test_a_source_without_a_usable_row_is_an_error(
    parsed: Callable[..., Run], tmp_path: Path, generated: Write
) -> None:
    generated(lambda k, row: row | {"answer": ""})
    with pytest.raises(DataError, match="40 empty"):
        convert(parsed, tmp_path)
    with pytest.raises(DataError, match="stage=generate"):
        convert(parsed, tmp_path, "answers=missing")


def test_pairs_are_joined_by_image_and_question(parsed: Callable[..., Run], tmp_path: Path, generated: Write) -> None:
    generated()
    other = generated(lambda k, row: row | {"answer": {0: "a0", 1: ""}.get(k, f"worse {k}")}, name="w")
    rows = list(read_rows(other))
    jsonl.write(other, list(reversed(rows[:-1])))  # in another order, and without one row
    summary, folder = convert(parsed, tmp_path, "rejected=w", "stage.split_dataset_ratio=0")
    assert summary.metrics["rejected"] == {"equal_answers": 1, "rejected_empty": 1, "no_rejected": 1}
    made = list(read_rows(folder / "train.jsonl"))
    assert len(made) == 37
    for row in made:
        chosen, worse = row["messages"][-1]["content"], row["rejected_response"]
        assert chosen.removeprefix("a") == worse.removeprefix("worse ")
    assert folder.name == "m-w.swift"


def test_an_image_is_identified_by_its_file_not_by_the_id_of_the_row(
    parsed: Callable[..., Run], tmp_path: Path, pictures: Path
) -> None:
    """The split, the duplicates and the published names depend on the image, even if ids are numbers or names vary."""
    names = ["00.png", "./00.png", str(pictures / "00.png"), *(f"0{k % 5 + 1}.png" for k in range(30))]
    source = pictures / "rows.jsonl"
    jsonl.write(source, [{"id": k, "image": n, "question": f"q{k // 3}", "answer": "a"} for k, n in enumerate(names)])
    options = [f"stage.source={source}", "stage.split_dataset_ratio=0.4", "format=vd100k"]
    summary, folder = convert(parsed, tmp_path, *options)
    assert summary.metrics["rejected"] == {"duplicate": 2}
    sides = {side: json.loads((folder / f"{side}.json").read_text(encoding="utf-8")) for side in ("train", "val")}
    images = {side: {row["image"] for row in rows} for side, rows in sides.items()}
    assert images["train"] | images["val"] == {f"0{k}.png" for k in range(6)}
    assert images["val"]
    assert not images["train"] & images["val"]
    same_id = [{"id": "x", "image": f"0{k}.png", "question": "q", "answer": "a"} for k in range(3)]
    jsonl.write(source, same_id)
    assert convert(parsed, tmp_path, *options)[0].counts["rejected"] == 0


def test_the_rejected_answer_of_a_pair_is_checked_too(
    parsed: Callable[..., Run], tmp_path: Path, generated: Write
) -> None:
    generated(lambda k, row: row | {"image_sha256": "one"} if k == 3 else row)
    odd = {0: {"a": 1}, 1: "an <image> tag", 2: " ".join(map(str, range(5000)))}

    def worse(k: int, row: Row) -> Row:
        return row | {"answer": odd.get(k, "worse"), **({"image_sha256": "another"} if k == 3 else {})}

    generated(worse, name="w")
    options = ["rejected=w", "stage.split_dataset_ratio=0", tiny_tokenizer(tmp_path)]
    summary, folder = convert(parsed, tmp_path, *options)
    assert summary.metrics["rejected"] == {"image_tags": 1, "too_long": 1, "other_image": 1}
    assert next(read_rows(folder / "train.jsonl"))["rejected_response"] == '{"a": 1}'


def recorded(path: Path) -> Row:
    """What a row records of its image."""
    return {"image_sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "image_mtime_ns": path.stat().st_mtime_ns}


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_picture_that_was_replaced_after_its_answer_is_not_trained_on(
    parsed: Callable[..., Run], tmp_path: Path, pictures: Path, mode: str
) -> None:
    from PIL import Image

    for path in pictures.iterdir():
        Image.open(path).convert(mode).save(path)
    source, answered = pictures / "rows.jsonl", {path.name: recorded(path) for path in pictures.glob("*.png")}
    Image.new(mode, (56, 56), (1, 2, 3)).save(pictures / "00.png")  # replaced
    os.utime(pictures / "01.png")  # touched only
    renewed = {"image": "00.png", "question": "new?", "answer": "a"} | recorded(pictures / "00.png")
    rows = [{"image": name, "question": "q", "answer": "a"} | answered[name] for name in sorted(answered)]
    rows += [{"image": "00.png", "question": f"q{k}", "answer": "a"} | answered["00.png"] for k in range(2)]
    jsonl.write(source, [renewed, *rows])
    summary, folder = convert(parsed, tmp_path, f"stage.source={source}", "stage.split_dataset_ratio=0")
    assert summary.metrics["rejected"] == {"image_changed": 3}
    assert [row["line"] for row in read_rows(folder / "rejected.jsonl")] == [2, 8, 9]
    assert summary.counts["train"] == 6, "the answer about the new content is kept"


def test_an_untouched_picture_is_not_read_again_to_compare_it(
    parsed: Callable[..., Run], tmp_path: Path, pictures: Path
) -> None:
    """The time of its last change is the recorded one, so the (made-up) hash is not looked at."""
    facts = {"image_sha256": "0" * 64, "image_mtime_ns": (pictures / "00.png").stat().st_mtime_ns}
    source = pictures / "rows.jsonl"
    jsonl.write(source, [{"image": "00.png", "question": "q", "answer": "a"} | facts])
    assert convert(parsed, tmp_path, f"stage.source={source}")[0].counts["rejected"] == 0


def test_a_rerun_does_not_rewrite_plain_copies(parsed: Callable[..., Run], tmp_path: Path, pictures: Path) -> None:
    from PIL import Image

    Image.new("RGBA", (60, 60), (255, 0, 0, 128)).save(pictures / "rgba.png")
    source = pictures / "rows.jsonl"
    jsonl.write(source, [{"image": "rgba.png", "question": "q", "answer": "a"}])
    copies = []
    for _ in range(2):
        _, folder = convert(parsed, tmp_path, f"stage.source={source}", "stage.split_dataset_ratio=0")
        copies.append(Path(next(read_rows(folder / "train.jsonl"))["images"][0]).stat().st_mtime_ns)
    assert copies[0] == copies[1], "a training run is identified by its files"


@pytest.mark.parametrize("pairs", [False, True])
def test_the_entry_for_llama_factory_names_existing_columns(
    parsed: Callable[..., Run], tmp_path: Path, generated: Write, pairs: bool
) -> None:
    generated()
    generated(lambda k, row: row | {"answer": "worse"}, name="w")
    system = ["format=sharegpt", "task.system_prompt='You are terse.'", *(["rejected=w"] if pairs else [])]
    _, folder = convert(parsed, tmp_path, *system)
    entries = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    entry = entries["pictures_details_train"]
    records = json.loads((folder / entry["file_name"]).read_text(encoding="utf-8"))
    for record in records:
        columns = {name: record[column] for name, column in entry["columns"].items()}
        assert columns["system"] == "You are terse."
        turns = [turn["from"] for turn in columns["messages"]]
        assert turns == (["human"] if pairs else ["human", "gpt"])
        assert columns["messages"][0]["value"].count("<image>") == len(columns["images"]) == 1
        if pairs:
            assert entry["ranking"] is True
            assert columns["rejected"] == {"from": "gpt", "value": "worse"}


def test_parquet_files_contain_their_images(parsed: Callable[..., Run], tmp_path: Path, generated: Write) -> None:
    import datasets

    generated()
    options = ["format=parquet", "stage.license=cc-by-4.0", "stage.split_dataset_ratio=0.3"]
    summary, folder = convert(parsed, tmp_path, *options)
    for image in (tmp_path / "pictures").iterdir():
        image.unlink()
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {
        "train": summary.counts["train"],
        "val": summary.counts["val"],
    }
    row = loaded["train"][0]
    assert row["image"].size == (56, 56)
    assert (row["question"], row["model"]) == ("q", "m")
    card = (folder / "README.md").read_text(encoding="utf-8")
    for piece in (
        "license: cc-by-4.0",
        "Describe this image",
        "**Answered by** m",
        f"| train | {summary.counts['train']} |",
    ):
        assert piece in card
    # The Parquet files can be converted again.
    back, _ = convert(parsed, tmp_path, f"stage.source={folder / 'data'}", f"stage.folder={tmp_path / 'back'}")
    assert back.counts["train"] + back.counts["val"] == 40


deep = st.sampled_from([10, 250, 260, 900, 1000]).map(lambda depth: json.loads("[" * depth + "]" * depth))
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**64, max_value=2**80),
    st.floats(),  # also NaN and infinity, which JSON does not know
    st.text(max_size=8),
    st.sampled_from(["", "q", "<image>", "!" * 30, "\ud800", "a\0b", "x" * 300]),
    st.lists(st.integers() | st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers() | st.just([]), max_size=2),
    deep,
)
any_row = st.fixed_dictionaries(
    {},
    optional={
        "id": st.one_of(values, st.sampled_from(["00.png", "../00.png", "a/b.png"])),
        "image": st.one_of(values, st.sampled_from(["00.png", "01.png", "../x.png", "gone.png", "/etc/passwd"])),
        "question": values,
        "answer": values,
        "rejected": values,
        "finish_reason": st.one_of(values, st.sampled_from(["stop", "length"])),
        "split": st.one_of(values, st.sampled_from(["train", "valid", "test"])),
        "model": values,
        "image_sha256": values,
        "image_mtime_ns": values,
        "choiceA": values,
    },
)
any_line = st.one_of(
    any_row.map(lambda row: json.dumps(row).encode()), st.binary(max_size=12).map(lambda b: b.replace(b"\n", b""))
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(any_line, max_size=12), others=st.lists(any_line, max_size=6))
def test_every_row_of_a_pair_is_either_written_or_rejected(
    parsed: Callable[..., Run], tmp_path: Path, pictures: Path, lines: list[bytes], others: list[bytes]
) -> None:
    good = {"id": "good", "image": "05.png", "question": "Is it?", "answer": "It is."}
    source, rejected_source = pictures / "rows.jsonl", pictures / "worse.jsonl"
    source.write_bytes(b"\n".join([json.dumps(good).encode(), *lines]))
    worse = json.dumps(good | {"answer": "It is not."}).encode()
    rejected_source.write_bytes(b"\n".join([worse, *others, *lines]))
    pair = [f"stage.source={source}", "rejected=w", f"stage.rejected={rejected_source}"]
    summary, folder = convert(parsed, tmp_path, *pair, "stage.split_dataset_ratio=0")
    written, refused = list(read_rows(folder / "train.jsonl")), list(read_rows(folder / "rejected.jsonl"))
    assert len(written) + len(refused) == summary.counts["rows"]
    assert all(isinstance(row["rejected_response"], str) for row in written)


@pytest.mark.parametrize("odd", [["00.png"], {"path": "00.png"}, [[]], 7, True, 1.5, {}], ids=repr)
@pytest.mark.parametrize("field", ["id", "image", "question", "answer", "split", "model", "finish_reason"])
def test_a_field_of_another_type_costs_at_most_its_own_row(
    parsed: Callable[..., Run], tmp_path: Path, pictures: Path, field: str, odd: object
) -> None:
    source = pictures / "rows.jsonl"
    rows = [{"id": f"{k}", "image": f"0{k}.png", "question": "q", "answer": "a", "split": "train"} for k in range(3)]
    jsonl.write(source, [rows[0], rows[1] | {field: odd}, rows[2]])
    summary, folder = convert(parsed, tmp_path, f"stage.source={source}")
    assert summary.counts["rows"] == 3
    refused = list(read_rows(folder / "rejected.jsonl"))
    assert [(row["line"], row["reason"]) for row in refused] in ([], [(2, "incomplete")])
    if field in ("image", "question"):
        assert refused


def test_images_in_a_folder_whose_name_is_not_utf8_are_rejected_with_the_reason(
    parsed: Callable[..., Run], tmp_path: Path, pictures: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    pictures.rename(folder)
    source = tmp_path / "rows.jsonl"
    jsonl.write(source, [{"image": f"0{k}.png", "question": "q", "answer": "a"} for k in range(6)])
    run = parsed("stage=convert", "dataset=d", "answers=m", "tracking=none", f"output_dir={tmp_path / 'outputs'}")
    stage = run.stage.model_copy(update={"source": source})
    run = run.model_copy(update={"image_folder": str(folder), "stage": stage})
    with pytest.raises(DataError, match="6 image_unreadable"):
        stages.execute(run, tmp_path / "run", [])
    assert all("not UTF-8" in row["detail"] for row in read_rows(run.stage.folder / "rejected.jsonl"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(any_line, max_size=12), target=st.sampled_from(["swift", "sharegpt", "vd100k"]))
def test_every_row_read_is_either_written_or_rejected(
    parsed: Callable[..., Run], tmp_path: Path, pictures: Path, lines: list[bytes], target: str
) -> None:
    good = json.dumps({"id": "good", "image": "05.png", "question": "Is it?", "answer": "It is."}).encode()
    source = pictures / "rows.jsonl"
    source.write_bytes(b"\n".join([good, *lines]))
    summary, folder = convert(parsed, tmp_path, f"stage.source={source}", f"format={target}")
    written = 0
    for side in ("train", "val"):
        path = folder / f"{side}.{'jsonl' if target == 'swift' else 'json'}"
        content = path.read_text(encoding="utf-8")
        records = [json.loads(line) for line in content.splitlines()] if target == "swift" else json.loads(content)
        written += len(records)
    rejected_rows = list(read_rows(folder / "rejected.jsonl"))
    assert written + len(rejected_rows) == summary.counts["rows"]
    assert summary.counts["rows"] == sum(1 for line in source.read_bytes().split(b"\n") if line.strip())
    assert all(row["reason"] and row["line"] for row in rejected_rows)
