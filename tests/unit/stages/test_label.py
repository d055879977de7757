"""stage=label without its page: what it shows, what is missing, and what it leaves when all rows are labelled."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import draw_pictures
from vd100k.config.run import Run
from vd100k.errors import ConfigError
from vd100k.io import jsonl
from vd100k.labelling.ledger import Ledger
from vd100k.labelling.sample import uniform

Call = Callable[..., subprocess.CompletedProcess[str]]
STAGE = ("stage=label", "images=photos", "task=vqa", "answers=teacher", "stage.labeller=ann")
ROWS = Path("outputs/data/photos/vqa/teacher.jsonl")


def rows_in(folder: Path, count: int = 6) -> list[dict[str, Any]]:
    draw_pictures(folder / "photos", count)
    rows = [
        {"id": path.name, "image": str(path), "question": "Which colour?", "answer": f"colour {k}", "model": "teacher"}
        for k, path in enumerate(sorted((folder / "photos").iterdir()))
    ]
    (folder / ROWS).parent.mkdir(parents=True)
    jsonl.write(folder / ROWS, rows)
    return rows


def test_a_dry_run_names_the_rows_and_missing_rows_are_said(vd100k: Call, tmp_path: Path) -> None:
    draw_pictures(tmp_path / "photos", 1)
    missing = vd100k(*STAGE)
    assert missing.returncode
    assert f"{ROWS}: there are no such rows. Generate them first" in missing.stderr
    (tmp_path / ROWS).parent.mkdir(parents=True)
    (tmp_path / ROWS).write_text('{"id": "a"}\n', encoding="utf-8")
    empty = vd100k(*STAGE)
    assert empty.returncode
    assert "there is no row to label" in empty.stderr
    assert "1 lines are not shown" in empty.stderr
    (tmp_path / ROWS).unlink()
    (tmp_path / ROWS).parent.rmdir()
    rows_in(tmp_path)
    planned = vd100k(*STAGE, "dry_run=true", "stage.rows=4")
    assert planned.returncode == 0, planned.stderr
    assert f"show 4 rows of {ROWS}, drawn by seed 42: " in planned.stdout
    assert "labelled by ann already: 0 of 4" in planned.stdout
    assert not list(tmp_path.rglob("*.labels.jsonl"))


def test_a_sample_that_is_labelled_already_is_said_and_reported(vd100k: Call, tmp_path: Path) -> None:
    rows = rows_in(tmp_path)
    with Ledger(tmp_path / ROWS.with_name("teacher.labels.jsonl"), "ann") as ledger:
        for k, drawn in enumerate(uniform(rows, 6, 42)):
            ledger.append(drawn, [True, False, None][k % 3], "<b>better</b>" if k == 1 else None)
    done = vd100k(*STAGE)
    assert done.returncode == 0, done.stderr
    assert "teacher.jsonl has only 6 rows to show; stage.rows=200 asks for more." in done.stdout
    assert "ann has labelled all 6 rows of the sample already. Set stage.rows=N" in done.stdout
    assert "6 of 6 rows labelled, 2 of 4 wrong: 50 % (15 to 85)" in done.stdout
    run = next(tmp_path.glob("outputs/runs/*/*-label"))
    assert json.loads((run / "summary.json").read_text())["counts"] == {
        **{"rows": 6, "right": 2, "wrong": 2},
        **{"corrected": 1, "skipped": 2},
    }
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "50.0 % (15 to 85)" in report
    assert "&lt;b&gt;better&lt;/b&gt;" in report
    assert report.count("data:image/webp") >= 6
    by_score = vd100k(*STAGE, "stage.stratify=score")
    assert "teacher.verdicts.jsonl: there are no scores to draw by" in by_score.stderr


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("stage.host=0.0.0.0", "set stage.password_env=VARIABLE"),
        ("stage.labels=labels.csv", "is no .jsonl file"),
        ("answers=null", "answers"),
        ("stage.rows=0", "stage.rows=0"),
    ],
)
def test_impossible_settings_name_the_remedy(parsed: Callable[..., Run], override: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(*STAGE, override)
    assert remedy in str(caught.value)
