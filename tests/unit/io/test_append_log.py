"""The append-only log: a torn last line is removed, and rows are counted."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.io import append_log
from vd100k.io.append_log import AppendLog, append_lines, cut_torn_line
from vd100k.io.jsonl import read_rows


@given(st.binary(max_size=40), st.integers(1, 10))
def test_everything_after_the_last_newline_is_removed(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, block: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "rows.jsonl"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(append_log, "BLOCK", block)
        cut_torn_line(path)
    assert path.read_bytes() == content[: content.rfind(b"\n") + 1]


def test_a_missing_file_has_no_torn_line(tmp_path: Path) -> None:
    cut_torn_line(tmp_path / "missing.jsonl")
    assert not (tmp_path / "missing.jsonl").exists()


def test_rows_of_several_threads_are_whole_and_counted(tmp_path: Path) -> None:
    log = AppendLog(tmp_path / "rows.jsonl")
    log.open()
    threads = [threading.Thread(target=lambda: [log.append({"id": "x" * 500}) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.sync()
    log.close()
    assert log.written == len(list(read_rows(log.path))) == 200


def test_only_rows_since_the_file_was_opened_are_counted(tmp_path: Path) -> None:
    for _ in range(2):
        log = AppendLog(tmp_path / "rows.jsonl")
        log.open()
        log.append({"id": "1"})
        assert log.written == 1
        log.close()
    assert len(list(read_rows(log.path))) == 2


def test_lines_are_appended_to_another_file(tmp_path: Path) -> None:
    for line in (b"1\n", b"2\n"):
        append_lines(tmp_path / "file", [line])
    assert (tmp_path / "file").read_bytes() == b"1\n2\n"
