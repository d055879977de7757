"""Blocks of rows: one process or several, and rows in which there is nothing to find, make the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.conversion import corpus
from vd100k import stages
from vd100k.config.run import Run
from vd100k.conversion import formats, run
from vd100k.conversion.blocks import BlockConverter, Converted, Recipe
from vd100k.conversion.token_lengths import TokenLengths
from vd100k.images.resizing import SizeRule
from vd100k.io import jsonl
from vd100k.io.repeats import KEY, NEW
from vd100k.sources.blocks import Rows

Row = dict[str, Any]

# The sha256 of all files of a conversion of the same rows, as they were when rows were converted one by one.
GOLDEN = {
    (): "1ed53d8839bc70e7",
    ("format=sharegpt", "stage.text_rows=apart", "stage.split_dataset_ratio=0.3"): "6a315a56ca33f22e",
    ("format=vd100k", "stage.split_dataset_ratio=0.2", "task.system_prompt='Be brief.'"): "a3712d5959e2e7a2",
    ("stage.turns=merge", "stage.text_rows=mixed"): "8148aa3990442830",
    ("stage.rules.near_duplicate=false", "stage.rules.echo=false", "stage.rules.repetition=false"): "82e74c6f7799e073",
    ("stage.rules.duplicate=false", "stage.rules.refusal=false", "stage.rules.too_long=false"): "c925d267f2937787",
    ("task.reader=json",): "ebb76516495a4831",
    ("stage.max_length=1310", "stage.split_dataset_ratio=0"): "877aad565062e22b",
}
OFF = [f"stage.rules.image_{rule}=false" for rule in ("missing", "unreadable", "changed", "small")]


@pytest.fixture(params=[1, 2], ids=["one process", "two processes"])
def processes(request: pytest.FixtureRequest) -> Iterator[int]:
    """The number of processes that share blocks of a few rows, all but the first."""
    before = run.ALONE, jsonl.BLOCK
    run.ALONE, jsonl.BLOCK = 0, 10_000
    yield request.param
    run.ALONE, jsonl.BLOCK = before


@pytest.mark.parametrize("options", list(GOLDEN), ids=" ".join)
def test_the_bytes_are_those_of_rows_converted_one_by_one(
    parsed: Callable[..., Run], tmp_path: Path, processes: int, options: tuple[str, ...]
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(corpus.lines(1500))
    folders = [f"stage.folder={tmp_path / 'made'}", f"output_dir={tmp_path}", "image_folder=/data", *OFF]
    names = ["stage=convert", "dataset=d", "answers=m", "tracking=none", "model=qwen2-vl-2b"]
    checked = parsed(*names, f"stage.source={source}", f"stage.processes={processes}", *folders, *options)
    summary = stages.execute(checked, tmp_path / "run", [])
    files = sorted((tmp_path / "made").iterdir())
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert all(digests[Path(facts["path"]).name] == facts["sha256"] for facts in summary.outputs)
    assert sum(summary.counts.values()) == 2 * summary.counts["rows"]
    assert hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:16] == GOLDEN[options]


@pytest.fixture(scope="module")
def converters(parsed: Callable[..., Run]) -> tuple[BlockConverter, BlockConverter]:
    """A converter, and one that knows no ordinary rows."""
    checked = parsed("stage=convert", "dataset=d", "answers=m", "model=qwen2-vl-2b", "stage.max_length=1600", *OFF)
    stage: Any = checked.stage
    lengths = TokenLengths(None, None, SizeRule.of(checked.model), stage.max_length)
    recipe = Recipe(checked, stage, lengths, ("/data",), formats.swift, ("train", "val", "test"))
    made = BlockConverter(recipe), BlockConverter(recipe)
    made[1]._ordinary.exist = False
    return made


texts = st.one_of(
    st.sampled_from([*corpus.ANSWERS, *corpus.QUESTIONS, "Describe this image", "Yes.", "yes", "As an AI", "a" * 350]),
    st.text(max_size=30),
    st.text("ab ", max_size=60),
    st.builds(
        lambda unit, count, end: unit * count + end, st.text(max_size=4), st.integers(0, 12), st.text(max_size=2)
    ),
)
others = st.one_of(texts, st.sampled_from([None, 3, True, 1.5, [], {}, ["00.png"]]))
plain_rows = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["a", "b"]),
        "image": st.sampled_from(["a.png", "b.png"]),
        "question": texts,
        "answer": texts,
    },
    optional={
        "model": st.sampled_from(["m", "n", None]),
        "image_sha256": st.sampled_from(["", "0", "1", None]),
        "finish_reason": st.sampled_from(["stop", "length"]),
    },
)
odd_rows = st.builds(
    lambda row, key, value: row | {key: value}, plain_rows, st.sampled_from([*corpus.NAMES, "rejected", "more"]), others
)
entries = st.lists(st.one_of(plain_rows, plain_rows, odd_rows), max_size=8)


def converted(converter: BlockConverter, rows: list[Row], kinds: bytes) -> Converted:
    made: list[Any] = [(number, orjson.loads(orjson.dumps(row))) for number, row in enumerate(rows, 1)]
    return converter((Rows(made), kinds))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=entries, data=st.data())
def test_ordinary_rows_become_what_the_rules_would_make_of_them(
    converters: tuple[BlockConverter, BlockConverter], rows: list[Row], data: st.DataObject
) -> None:
    quick, thorough = (converted(converter, rows, b"") for converter in converters)
    assert quick == thorough
    kinds = bytes(data.draw(st.sampled_from([NEW, NEW, 1, 2])) for _ in range(len(quick.keys) // KEY))
    quick, thorough = (converted(converter, rows, kinds) for converter in converters)
    assert quick == thorough
    assert len(quick.keys) == KEY * len(kinds)


def test_most_rows_are_ordinary(converters: tuple[BlockConverter, BlockConverter]) -> None:
    rows = [{"id": "a", "image": "a.png", "question": f"What is {k}?", "answer": f"It is {k}."} for k in range(10)]
    convert, calls = converters[0].convert, []
    converters[0].convert = lambda number, row: calls.append(number) or convert(number, row)  # type: ignore[assignment,func-returns-value]
    try:
        assert converted(converters[0], [*rows, rows[0] | {"answer": " "}], b"").sides["train"][0] == 10
    finally:
        del converters[0].convert
    assert calls == [11]


some_lines = st.one_of(st.binary(max_size=8), st.sampled_from([*corpus.LINES, b'{"a": 1}']))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.one_of(st.binary(max_size=8), st.sampled_from([*corpus.LINES, b'{"a": 1}']))),
    size=st.integers(1, 40),
)
def test_the_blocks_of_a_file_have_its_lines(tmp_path: Path, lines: list[bytes], size: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(lines))
    before, jsonl.BLOCK = jsonl.BLOCK, size
    try:
        found = [entry for block in jsonl.blocks(path) for entry in jsonl.read_block(path, block)]
    finally:
        jsonl.BLOCK = before
    assert found == list(jsonl.read(path))
