"""What stage=parity says without starting anything: its plan, why it cannot compare, and its section of a report."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vd100k.config.run import Run
from vd100k.pages.blocks import Bars, Gallery, Table
from vd100k.parity import page, pictures
from vd100k.parity.causes import Cause
from vd100k.parity.certificate import Certificate, Judged

Call = Callable[..., subprocess.CompletedProcess[str]]


def test_a_dry_run_shows_both_command_lines(vd100k: Call) -> None:
    done = vd100k("stage=parity", "dataset=d", "dry_run=true")
    [trainer] = [line for line in done.stdout.splitlines() if "-m vd100k.parity.trainer RUN_FOLDER/" in line]
    assert "MAX_PIXELS=12544 " in trainer
    [renderer] = [line for line in done.stdout.splitlines() if "vllm.entrypoints.launchers.render.entry" in line]
    assert "--model outputs/models/tiny-student" in renderer
    assert '"max_pixels": 12544' in renderer


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["hardware=api", "hardware.urls=[http://127.0.0.1:9/v1]"], "hardware=api asks a server elsewhere"),
        (["engine@hardware.engine=mlx"], "the engine mlx does not show"),
        (["stage.train.args.dataset=AI-ModelScope/LaTeX_OCR"], "reads no local .jsonl file"),
    ],
)
def test_what_cannot_be_compared_is_said_and_is_no_error(vd100k: Call, overrides: list[str], why: str) -> None:
    done = vd100k("stage=parity", "dataset=d", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Whether rows are trained on as they are served was not compared" in done.stdout
    assert why in done.stdout


def test_a_missing_training_file_is_named(vd100k: Call) -> None:
    done = vd100k("stage=parity", "dataset=d")
    assert done.returncode == 1
    assert "details/tiny-student.swift/train.jsonl: the training file does not exist" in done.stderr + done.stdout


def test_a_pipeline_checks_its_own_training_and_both_models(parsed: Callable[..., Run]) -> None:
    run = parsed("experiment=demo", "stage.finetune.args.system=Hello", "stage.parity.rows=7")
    before, after = run.parts["parity"], run.parts["parity_merged"]
    assert before.stage.train == run.parts["finetune"].stage
    assert (before.stage.rows, after.stage.rows) == (7, 24)
    assert (before.weights, after.weights) == ("base", "merged")
    assert after.hardware.engine.args["model"] == str(run.parts["export"].stage.folder)
    assert before.stage.file != after.stage.file


def test_a_pipeline_can_leave_both_checks_out(parsed: Callable[..., Run]) -> None:
    assert list(parsed("experiment=demo", "stage.parity=false").parts) == [
        *("render", "generate", "convert", "finetune", "export", "evaluate")
    ]


def test_the_section_of_a_report_has_causes_pictures_and_rows(tmp_path: Path) -> None:
    image = np.full((28, 56, 3), 200, dtype=np.uint8)
    turned = np.ascontiguousarray(np.rot90(image))
    cause = Cause("EXIF orientation", "image 1 is served turned", "Run stage=convert.")
    rows = [
        Judged(1, ["largest image"], []),
        Judged(5, ["turned by EXIF"], [cause]),
        Judged(8, [], [], "it has videos"),
    ]
    found = Certificate(rows, {5: [(image, turned)], 1: [(image, image)]})
    assert found.result == "different"
    assert found.sentences() == ["image 1 is served turned (1 of 3 rows, the first is row 5). Run stage=convert."]
    path = tmp_path / "parity.json"
    path.write_text(json.dumps(found.content() | {"pictures": pictures.save(found, tmp_path)}))
    bars, gallery, table = page.blocks(path)
    assert isinstance(bars, Bars)
    assert bars.counts == [("EXIF orientation", 1)]
    assert isinstance(gallery, Gallery)
    assert [card.group for card in gallery.cards] == ["different", "equal"]
    assert [picture.size for picture in gallery.cards[0].pictures] == [(28 + 12 + 56, 56)]
    assert isinstance(table, Table)
    assert [row[2] for row in table.rows] == ["as served", "EXIF orientation", "it has videos"]


def test_a_picture_that_was_deleted_is_left_out(tmp_path: Path) -> None:
    rows = [{"number": 1, "causes": [], "traits": [], "not_compared": "", "trained_tokens": 3, "served_tokens": 3}]
    content = {"rows": rows, "pictures": [{"row": 1, "image": 1, "path": "../../secret.webp"}]}
    (tmp_path / "parity.json").write_text(json.dumps(content))
    assert [block.kind for block in page.blocks(tmp_path / "parity.json")] == ["table"]
