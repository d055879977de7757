"""Two pictures in a question and three questions in a conversation, from the list of images to the evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import free_ports
from tests.engine.conftest import Fleet, rows, summary
from tests.engine.test_finetune import call
from vd100k.io.jsonl import write

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

PAIRS = 6
QUESTIONS = ["What is the difference?", "What is in the first picture?", "What is in the second one?"]


def test_pairs_and_conversations_go_through_the_whole_loop(fleet: Fleet, tmp_path: Path) -> None:
    names = [path.name for path in sorted((fleet.folder / "outputs/images/scenes-42/train").iterdir())]
    every = [{"id": f"pair {k}", "images": names[2 * k : 2 * k + 2]} for k in range(PAIRS + 2)]
    pairs, held_out = every[:PAIRS], every[PAIRS:]
    write(tmp_path / "pairs.jsonl", [pair | {"questions": QUESTIONS} for pair in pairs])
    write(tmp_path / "heldout.jsonl", held_out)
    write(tmp_path / "labels.jsonl", [{"id": pair["id"], "answer": "red"} for pair in held_out])
    common = [
        *("task=difference", "model=tiny-student", "answers=tiny-teacher", "dataset=pairs"),
        f"image_folder={fleet.folder}/outputs/images/scenes-42/train",
    ]
    urls = f"hardware.urls=[{','.join(f'http://127.0.0.1:{port}/v1' for port in fleet.replicas)}]"
    served = ["hardware=api", urls, "model=tiny-teacher", "task.sampling.max_tokens=24"]
    asked = call(tmp_path, "stage=generate", "images=pairs.jsonl", *common, *served)
    assert asked.returncode == 0, asked.stdout + asked.stderr
    found = rows(tmp_path / "outputs/data/pairs/difference/tiny-teacher.jsonl")
    assert {(row["id"], row["turn"]) for row in found} == {(p["id"], turn) for p in pairs for turn in (1, 2, 3)}
    assert all(len(row["images"]) == 2 and row["answer"] for row in found)

    rules = [f"stage.rules.{rule}=false" for rule in ("repetition", "truncated")]
    made = call(tmp_path, "stage=convert", *common, *rules, "stage.split_dataset_ratio=0")
    assert made.returncode == 0, made.stdout + made.stderr
    records = rows(tmp_path / "outputs/data/pairs/difference/tiny-teacher.swift/train.jsonl")
    assert len(records) == PAIRS
    for record in records:
        assert len(record["images"]) == 2
        asked_texts = [m["content"] for m in record["messages"] if m["role"] == "user"]
        assert asked_texts == ["<image><image>" + QUESTIONS[0], *QUESTIONS[1:]]

    steps = ["+stage.args.max_steps=2", "stage.args.logging_steps=1", "stage.args.gradient_accumulation_steps=1"]
    trained = call(tmp_path, "stage=finetune", *common, *steps, "stage.args.per_device_train_batch_size=3")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert summary(tmp_path)["counts"]["steps"] == 2
    assert call(tmp_path, "stage=export", *common).returncode == 0

    evaluated = ["stage.images=heldout.jsonl", "stage.labels=labels.jsonl", "stage.sides=[after]"]
    port = f"hardware.port={free_ports(1)}"
    judged = call(tmp_path, "stage=evaluate", *common, *evaluated, port, "task.sampling.max_tokens=8", timeout=500)
    assert judged.returncode == 0, judged.stdout + judged.stderr
    compared = rows(tmp_path / "outputs/evaluations/pairs/difference/tiny-student.compared.jsonl")
    assert [(row["id"], len(row["images"])) for row in compared] == [(pair["id"], 2) for pair in held_out]
    assert all(isinstance(row["after"], str) for row in compared)
    page = (tmp_path / "outputs/latest/report.html").read_text(encoding="utf-8")
    assert page.count('<div class="frames">') >= 2
