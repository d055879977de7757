"""What steps need is checked before the first one starts, also in a dry run; nothing is drawn over files of others."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chat_server import chat_server
from tests.conftest import draw_pictures
from vd100k.io import jsonl

Result = subprocess.CompletedProcess[str]
Call = Callable[..., Result]
MANIFEST = {"prefix": "<JSON>", "suffix": '{"route": "A1"}'}
URL = ["hardware=api", "hardware.urls=[http://127.0.0.1:9/v1]"]


def roboflow(folder: Path, *splits: str) -> Path:
    """A folder in Roboflow's layout."""
    for split in splits:
        draw_pictures(folder / split, 3)
        rows = [{"image": f"{k:02d}.png", **MANIFEST} for k in range(3)]
        jsonl.write(folder / split / "annotations.jsonl", rows)
    return folder


@pytest.mark.parametrize("experiment", ["manifest-ocr", "demo"])
@pytest.mark.parametrize("dry", [True, False], ids=["dry run", "run"])
def test_nothing_is_drawn_into_a_mistyped_folder(vd100k: Call, tmp_path: Path, experiment: str, dry: bool) -> None:
    done = vd100k(f"experiment={experiment}", "images=typo", f"dry_run={str(dry).lower()}")
    assert done.returncode == 1
    assert "images=typo: no such folder" in done.stderr
    assert not (tmp_path / "typo").exists()
    assert not list(tmp_path.glob("outputs/images/*"))


def test_the_users_own_images_are_never_drawn_over(vd100k: Call, tmp_path: Path) -> None:
    images = roboflow(tmp_path / "own", "train", "test")
    before = {path: path.read_bytes() for path in images.rglob("*") if path.is_file()}
    done = vd100k("experiment=manifest-ocr", f"images={images}", "stage.steps=[render]")
    assert done.returncode == 0, done.stderr
    assert "are your own pictures: nothing is drawn" in done.stdout
    assert {path: path.read_bytes() for path in images.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "outputs/images").exists()


def test_pictures_are_drawn_into_the_folder_of_the_experiment(vd100k: Call, tmp_path: Path) -> None:
    small = ["stage.steps=[render]", "stage.render.train=2", "stage.render.heldout=1"]
    done = vd100k("experiment=manifest-ocr", *small)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs/images/manifests-42/test/annotations.jsonl").exists()


def test_files_of_others_are_not_deleted_by_drawing(vd100k: Call, tmp_path: Path) -> None:
    draw_pictures(tmp_path / "photos/train", 2)
    done = vd100k("stage=render", "stage.folder=photos")
    assert done.returncode == 1
    assert "Set stage.folder=FOLDER" in done.stderr
    assert len(list((tmp_path / "photos/train").iterdir())) == 2


@pytest.mark.parametrize("dry", [True, False], ids=["dry run", "run"])
def test_a_folder_without_held_out_documents_is_refused_before_the_first_step(
    vd100k: Call, tmp_path: Path, dry: bool
) -> None:
    images = roboflow(tmp_path / "docs", "train")
    done = vd100k("experiment=manifest-ocr", f"images={images}", f"dry_run={str(dry).lower()}")
    assert done.returncode == 1
    assert f"stage.evaluate.images={images}/test: no such folder" in done.stderr
    assert "annotations.jsonl" not in done.stderr, "the labels in a missing folder are no second problem"
    assert not (tmp_path / "outputs/data").exists()


def test_a_dry_run_of_complete_inputs_succeeds_without_what_only_the_run_needs(vd100k: Call, tmp_path: Path) -> None:
    images = roboflow(tmp_path / "docs", "train", "test")
    far = ["hardware=t4x4", "model=qwen2-vl-7b", "model.path=/models/far-away"]
    shown = vd100k("experiment=manifest-ocr", f"images={images}", *far, "dry_run=true")
    assert shown.returncode == 0, shown.stderr


def test_all_problems_of_all_steps_are_reported_together(
    vd100k: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    jsonl.write(tmp_path / "labels.jsonl", [{"name": "a.png", "text": "x"}])
    done = vd100k(
        *("experiment=gpt-distill", "images=nowhere", "hardware=cpu", "model=tiny-student"),
        *("model.path=./nothing", "model.build=null", "stage.steps=[generate,convert,finetune,export,evaluate]"),
        f"stage.evaluate.images={draw_pictures(tmp_path / 'heldout', 1)}",
        "stage.evaluate.labels=labels.jsonl",
    )
    assert done.returncode == 1
    for problem in (
        "images=nowhere: no such folder",
        "export OPENAI_API_KEY=…",
        "nothing: the model folder does not exist",
        "stage.evaluate.labels=labels.jsonl: none of its first 1 lines is a label. The first row has name, text.",
    ):
        assert done.stderr.count(problem) == 1, done.stderr
    assert "[1/5]" not in done.stdout
    assert "the training file does not exist" not in done.stderr, "convert makes it"


def test_labels_of_other_images_are_refused_before_the_first_step(vd100k: Call, tmp_path: Path) -> None:
    images = roboflow(tmp_path / "docs", "train", "test")
    labels = images / "test/annotations.jsonl"
    jsonl.write(labels, [{"image": "elsewhere.png", **MANIFEST}])
    done = vd100k("experiment=manifest-ocr", f"images={images}", "dry_run=true")
    assert done.returncode == 1
    assert f"stage.evaluate.labels={labels}: no image of {images}/test has a label" in done.stderr
    assert "the id 00.png" in done.stderr


def test_a_rerun_with_all_answers_needs_no_key(vd100k: Call, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "k")
    with chat_server(lambda n, body: "a") as server:
        ask = ["stage=generate", f"images={pictures}", "hardware=api", f"hardware.urls=[{server.url}]"]
        ask += ["model.api_key_env=SOME_KEY", "model.served_name=gpt-4o", "task=details"]
        assert vd100k(*ask).returncode == 0
        monkeypatch.delenv("SOME_KEY")
        assert vd100k(*ask).returncode == 0
        assert vd100k(*ask, "dataset=new").returncode == 1


def test_a_table_without_answers_is_refused_with_its_columns(vd100k: Call, tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "table.csv").write_text("image,text\n00.png,hello\n", encoding="utf-8")
    done = vd100k("stage=convert", f"images={pictures}", "stage.source=table.csv")
    assert done.returncode == 1
    assert (
        "no column answer or suffix or boxes; columns found: image, text. Set stage.columns.image=NAME" in done.stderr
    )


def test_convert_leaves_no_empty_training_file_and_names_the_rule(vd100k: Call, tmp_path: Path, pictures: Path) -> None:
    rows = [{"image": f"{k:02d}.png", "question": "What?", "answer": "I cannot help with that."} for k in range(6)]
    jsonl.write(pictures / "table.jsonl", rows)
    source = ["dataset=d", f"stage.source={pictures}/table.jsonl"]
    done = vd100k("stage=convert", *source)
    assert done.returncode == 1
    assert "Of 6 rows, 6 were rejected: 6 refusal." in done.stderr
    assert "stage.rules.refusal=false" in done.stderr
    summary = json.loads((tmp_path / "outputs/latest/summary.json").read_text(encoding="utf-8"))
    assert (summary["status"], summary["counts"]["rejected"]) == ("failed", 6)
    assert not list(tmp_path.glob("outputs/data/d/details/*/train.jsonl"))
    assert list(tmp_path.glob("outputs/data/d/details/*/rejected.jsonl"))


def test_an_empty_training_file_is_refused_before_training(vd100k: Call, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").touch()
    done = vd100k("stage=finetune", "dataset=d", "stage.args.dataset=train.jsonl", "stage.args.val_dataset=null")
    assert done.returncode == 1
    assert "train.jsonl: the training file has no rows. Make it again" in done.stderr


@pytest.mark.parametrize("empty", [True, False])
def test_training_names_the_rules_that_rejected_all_rows(vd100k: Call, tmp_path: Path, empty: bool) -> None:
    if empty:
        (tmp_path / "train.jsonl").touch()
    rejected = [{"line": k, "reason": "refusal" if k else "image_small"} for k in range(3)]
    jsonl.write(tmp_path / "rejected.jsonl", rejected)
    done = vd100k("stage=finetune", "dataset=d", "stage.args.dataset=train.jsonl", "stage.args.val_dataset=null")
    assert done.returncode == 1
    assert f"train.jsonl: the training file {'has no rows' if empty else 'does not exist'}. 3 rows" in done.stderr
    assert "were rejected: 2 refusal, 1 image_small. Look at them in rejected.jsonl." in done.stderr


def test_a_failed_pipeline_names_the_step_and_the_command_that_continues(vd100k: Call, pictures: Path) -> None:
    with chat_server(lambda n, body: (400, {}, '{"error": {"message": "no"}}')) as server:
        own = [f"images={pictures}", "hardware=api", f"hardware.urls=[{server.url}]", "model.api_key_env=null"]
        done = vd100k("stage=pipeline", "stage.steps=[generate,convert]", *own, "stage.generate.check=false")
    assert done.returncode == 1
    assert "Step 1 of 2, generate, failed" in done.stdout
    assert f"python run.py stage=pipeline 'stage.steps=[generate,convert]' images={pictures}" in done.stdout
