"""Tables in JSONL and CSV: the same rows from both, and bad lines reported with their numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.errors import DataError
from vd100k.io import jsonl, tables
from vd100k.io.jsonl import Fault

COLUMNS = ["id", "回答"]
# The csv module of Python 3.11 cannot read a NUL character.
cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.lists(st.tuples(cells, cells).map(lambda pair: dict(zip(COLUMNS, pair, strict=True)))))
def test_csv_and_jsonl_give_the_same_rows(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("tables")
    jsonl.write(folder / "table.jsonl", rows)
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    assert [row for _, row in tables.read(folder / "table.jsonl")] == rows
    assert [row for _, row in tables.read(folder / "table.csv")] == rows


@given(st.binary(max_size=60), st.sampled_from(["table.csv", "table.jsonl"]))
def test_any_bytes_give_rows_or_faults_or_one_readable_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    path = tmp_path_factory.mktemp("tables") / name
    path.write_bytes(content)
    try:
        entries = list(tables.read(path))
    except DataError as raised:
        message = str(raised)
        entries = []
    else:
        message = str(path)
    assert str(path) in message
    assert all(isinstance(row, dict | Fault) for _, row in entries)


def test_bad_lines_of_a_csv_file_are_faults_with_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b'id,answer\n1,"two\nlines"\n2\n3,a,b\n4,\xff\n5,e\n')
    entries = list(tables.read(path))
    assert [number for number, _ in entries] == [2, 4, 5, 6, 7]
    assert [row for _, row in entries if isinstance(row, dict)] == [
        {"id": "1", "answer": "two\nlines"},
        {"id": "5", "answer": "e"},
    ]
    assert [row.detail for _, row in entries if isinstance(row, Fault)] == [
        "fewer values than columns",
        "more values than columns",
        "not UTF-8 text",
    ]


def test_the_line_numbers_after_a_bad_csv_row_are_right(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('id,answer\n1,a\n2,"b" c\n3,"d" e\n4,f\n', encoding="utf-8")
    entries = list(tables.read(path))
    assert [number for number, _ in entries] == [2, 3, 4, 5]
    assert [isinstance(row, Fault) for _, row in entries] == [False, True, True, False]


def test_a_quote_that_is_never_closed_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('id,answer\n1,a\n2,"b\n', encoding="utf-8")
    (_, first), (number, fault) = tables.read(path)
    assert first == {"id": "1", "answer": "a"}
    assert number == 3
    assert isinstance(fault, Fault)
    assert fault.detail.startswith("not CSV up to line 3")


def test_a_header_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes("id,回答\n".encode("gb18030"))
    with pytest.raises(DataError, match="the first line, which names the columns, is not UTF-8"):
        list(tables.read(path))


@pytest.mark.parametrize("name", ["missing.csv", "missing.jsonl"])
def test_a_missing_table_is_an_error_with_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}: cannot be read: No such file"):
        list(tables.read(tmp_path / name))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file,caption", r"table\.csv, line 1: no column image; columns found: file, caption\. Rename it\."),
        ("image;caption", r"columns found: image;caption\. It seems to be separated by semicolons: save it with"),
        ("image,text", r"no column answer or suffix; columns found: image, text\. Rename it\."),
    ],
)
def test_a_header_without_a_needed_column_is_an_error_with_the_columns_found(
    tmp_path: Path, header: str, message: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"{header}\na,b\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        list(tables.read(path, [["image"], ["answer", "suffix"]], "Rename it."))


def test_a_header_with_all_needed_columns_is_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("image,suffix\na,b\n", encoding="utf-8")
    assert list(tables.read(path, [["image"], ["answer", "suffix"]])) == [(2, {"image": "a", "suffix": "b"})]
