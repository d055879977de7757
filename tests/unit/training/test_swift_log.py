"""The log that ms-swift writes while it trains."""

from __future__ import annotations

import json
import math
from pathlib import Path

from vd100k.training import swift_log


def test_rows_are_read_as_they_arrive(tmp_path: Path) -> None:
    log = tmp_path / "logging.jsonl"
    assert swift_log.log_rows(tmp_path) == []
    rows = [{"loss": 2.0 / step, "global_step/max_steps": f"{step}/3"} for step in (1, 2, 3)]
    log.write_text("".join(f"{json.dumps(row)}\n" for row in rows[:2]) + json.dumps(rows[2])[:9], encoding="utf-8")
    assert swift_log.log_rows(tmp_path) == rows[:2], "a line that is not complete yet is left out"
    log.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    assert swift_log.log_rows(tmp_path, skip=2) == rows[2:]
    assert swift_log.curve(rows) == [(1, 2.0), (2, 1.0), (3, 2.0 / 3)]


def test_lines_that_were_read_before_are_not_parsed_again(tmp_path: Path) -> None:
    (tmp_path / "logging.jsonl").write_text('no JSON\n{"loss": 1.0}\n', encoding="utf-8")
    assert swift_log.log_rows(tmp_path, skip=1) == [{"loss": 1.0}]


def test_a_diverged_training_shows_its_nan(tmp_path: Path) -> None:
    (tmp_path / "logging.jsonl").write_text('{"loss": NaN, "global_step/max_steps": "1/2"}\n', encoding="utf-8")
    (row,) = swift_log.log_rows(tmp_path)
    assert math.isnan(row["loss"])
