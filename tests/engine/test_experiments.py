"""Two shipped experiments from start to end: learning from annotated documents, and from a teacher's answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import free_ports
from tests.engine.conftest import Fleet, rows, summary
from tests.engine.test_finetune import call

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.mark.story
def test_manifest_ocr_learns_the_fields(tmp_path: Path) -> None:
    shortened = ["stage.render.train=320", "stage.render.heldout=40", "+stage.finetune.args.max_steps=90"]
    batch = ["per_device_train_batch_size=4", "gradient_accumulation_steps=1", "save_steps=90"]
    shortened += [f"stage.finetune.args.{value}" for value in batch]
    done = call(tmp_path, "experiment=manifest-ocr", *shortened, f"hardware.port={free_ports(1)}", timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = summary(tmp_path)["metrics"]
    assert metrics["after"]["field_accuracy"] >= metrics["before"]["field_accuracy"] + 0.6
    compared = rows(tmp_path / "outputs/evaluations/manifests-42/manifest/tiny-reader.compared.jsonl")
    assert len(compared) == 40
    trained_on = rows(tmp_path / "outputs/data/manifests-42/manifest/annotations.swift/train.jsonl")
    assert all("/train/" in row["images"][0] for row in trained_on), "training used documents of the evaluation"
    own = (tmp_path / "outputs/images/manifests-42").rename(tmp_path / "own")
    shown = call(tmp_path, "experiment=manifest-ocr", f"images={own}", "stage.steps=[render]")
    assert "are your own pictures: nothing is drawn" in shown.stdout
    assert not (tmp_path / "outputs/images/manifests-42").exists()


def test_gpt_distill_trains_on_the_answers_of_a_remote_teacher(fleet: Fleet, tmp_path: Path) -> None:
    """The shipped configuration, with tiny models and a local endpoint in place of GPT's."""
    url = f"http://127.0.0.1:{fleet.replicas[0]}/v1"
    story = [
        "experiment=gpt-distill",
        f"images={fleet.folder}/outputs/images/scenes-42/train",
        "dataset=photos",
        "task.prompt='Describe the picture as JSON.'",
        "hardware=cpu",
        "model=tiny-student",
        f"teacher.hardware.urls=[{url}]",
        "teacher.model.served_name=tiny-teacher",
        "teacher.model.api_key_env=null",
    ]
    short = ["+stage.finetune.args.max_steps=6", "stage.finetune.args.gradient_accumulation_steps=1"]
    done = call(tmp_path, *story, *short)
    assert done.returncode == 0, done.stdout + done.stderr
    assert summary(tmp_path)["counts"]["requests"] == 48 + 1, "one small request first, to check the endpoint"
    assert summary(tmp_path)["steps"][0]["counts"]["cost"] > 0, "the price of GPT-4o is not known"
    models = tmp_path / "outputs/models/tiny-student/photos-vqa-gpt-4o"
    assert (models / "merged/model.safetensors").exists()
    again = call(tmp_path, *story, *short)
    assert summary(tmp_path)["counts"]["requests"] == 0
    assert again.stdout.count("reusing") == 4, "both comparisons, the adapter and the merged model"
