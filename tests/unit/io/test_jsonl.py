"""Reading and writing JSONL: every row survives, and a bad line is reported without ending the file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.errors import DataError
from vd100k.io import jsonl
from vd100k.io.jsonl import Fault

utf8_texts = st.text(st.characters(codec="utf-8"))
any_texts = st.text(st.characters(codec=None))  # includes lone surrogates


def rows_of(texts: st.SearchStrategy[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | texts
    values = st.recursive(
        scalars.filter(lambda value: not isinstance(value, float) or math.isfinite(value)),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    )
    return st.lists(st.dictionaries(texts, values, max_size=4), max_size=5)


@given(rows_of(utf8_texts))
def test_rows_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "rows.jsonl"
    jsonl.write(path, rows)
    assert list(jsonl.read_rows(path)) == rows


@given(rows_of(any_texts))
def test_rows_with_lone_surrogates_stay_one_readable_line_each(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "rows.jsonl"
    jsonl.write(path, rows)
    assert path.read_bytes().count(b"\n") == len(rows)
    assert len(list(jsonl.read_rows(path))) == len(rows)


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b" ")), max_size=8))
def test_any_bytes_are_read_line_by_line(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "rows.jsonl"
    content = b"".join(line + b"\n" for line in lines)
    path.write_bytes(content)
    for number, offset, line, row in jsonl.scan(path):
        assert line == lines[number - 1] + b"\n"
        assert content[offset : offset + len(line)] == line
        assert isinstance(row, dict | Fault)
    read = {number for number, _ in jsonl.read(path)}
    assert all(not line.strip() for number, line in enumerate(lines, start=1) if number not in read)


@given(st.integers(0, 20), st.integers(1, 7))
def test_every_nth_line_is_read_starting_with_the_first(
    tmp_path_factory: pytest.TempPathFactory, count: int, step: int
) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "rows.jsonl"
    jsonl.write(path, [{"k": k} for k in range(count)])
    assert [row for _, row in jsonl.read(path, step)] == [{"k": k} for k in range(0, count, step)]


def test_a_bad_line_is_a_fault_with_its_number_and_reading_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "1"}\n\n[]\n{"id": \xff}\nnull\n{"id": "2"}')
    entries = dict(jsonl.read(path))
    assert entries.pop(1) == {"id": "1"}
    assert entries.pop(6) == {"id": "2"}
    assert list(entries) == [3, 4, 5], "the empty line is skipped"
    faults = [fault for fault in entries.values() if isinstance(fault, Fault)]
    assert [fault.reason for fault in faults] == ["bad_line"] * 3
    assert [fault.raw for fault in faults] == ["[]\n", '{"id": \ufffd}\n', "null\n"]


def test_a_fault_keeps_only_the_beginning_of_a_long_line() -> None:
    fault = jsonl.parse(1, b"x" * 100_000)
    assert isinstance(fault, Fault)
    assert fault.raw == "x" * jsonl.MAX_RAW


@pytest.mark.parametrize("loads", [json.loads, None])
def test_deeply_nested_json_is_a_fault(loads: Any) -> None:
    line = b'{"a": ' + b"[" * 100_000
    assert isinstance(jsonl.parse(1, line, loads) if loads else jsonl.parse(1, line), Fault)


def test_a_bad_line_in_a_file_of_our_own_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "1"}\noops\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2: not JSON.*Fix or remove this line"):
        list(jsonl.read_rows(path))


def test_a_missing_file_of_our_own_has_no_rows(tmp_path: Path) -> None:
    assert list(jsonl.read_rows(tmp_path / "missing.jsonl")) == []
