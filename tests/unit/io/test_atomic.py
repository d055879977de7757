"""Files and links are replaced as a whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.io import atomic

# Lone surrogates as in a path that is not UTF-8. A high one before a low one would be read as one character.
texts = st.text(st.characters(codec="utf-8") | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.binary(max_size=20).map(lambda line: line + b"\n")))
def test_a_file_has_the_new_lines_and_their_number_is_returned(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("atomic") / "file"
    path.write_bytes(b"old")
    assert atomic.replace(path, lines) == len(lines)
    assert path.read_bytes() == b"".join(lines)
    assert list(path.parent.iterdir()) == [path], "no scratch file is left"


def test_the_old_content_stays_if_the_new_content_cannot_be_made(tmp_path: Path) -> None:
    def lines() -> Iterator[bytes]:
        yield b"new\n"
        raise ValueError("no more lines")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="no more lines"):
        atomic.replace(path, lines())
    assert path.read_bytes() == b"old"


def test_a_file_may_be_replaced_by_a_part_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1\n2\n3\n")
    with path.open("rb") as file:
        atomic.replace(path, (line for line in file if line != b"2\n"))
    assert path.read_bytes() == b"1\n3\n"


@given(json_values)
def test_json_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("atomic") / "file.json"
    atomic.write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value


def test_a_link_is_made_and_later_points_elsewhere(tmp_path: Path) -> None:
    link = tmp_path / "outputs" / "latest"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        atomic.link(link, tmp_path / name)
        assert link.resolve() == tmp_path / name
    assert list(link.parent.iterdir()) == [link]


def test_a_folder_is_never_replaced_by_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "latest"
    folder.mkdir()
    (folder / "kept").touch()
    with pytest.raises(OSError, match="irectory"):
        atomic.link(folder, tmp_path / "other")
    assert (folder / "kept").exists()
