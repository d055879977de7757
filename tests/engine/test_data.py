"""The data sets of convert in ms-swift itself: its loader drops no row, sees every image, and training works."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import rows, summary
from tests.engine.test_finetune import call

pytestmark = pytest.mark.engine

# One process for all tests, because importing swift takes ten seconds. For each line on stdin it loads a file as
# training does, encodes every row, and prints what it found.
LOADER = """
import json, sys
from swift.dataset import load_dataset
from swift.model import get_processor
from swift.template import get_template
processor = get_processor(sys.argv[1], model_type="qwen2_vl")
for line in sys.stdin:
    path, mode, max_length = json.loads(line)
    template = get_template(processor, default_system="You are a helpful assistant.", max_length=max_length,
                            template_type="qwen2_vl")
    template.set_mode(mode)
    dataset, _ = load_dataset(path, load_from_cache_file=False)
    found = []
    for row in dataset:
        encoded = template.encode(dict(row))
        ids = encoded.get("input_ids") or encoded["chosen_input_ids"]
        pixels = encoded.get("pixel_values", encoded.get("chosen_pixel_values", encoded.get("rejected_pixel_values")))
        found.append({"tokens": len(ids), "pixels": list(pixels.shape), "text": processor.tokenizer.decode(ids)})
    print("FOUND" + json.dumps(found), flush=True)
"""
Load = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def load(folder: Path) -> Iterator[Load]:
    """Load a file with swift: the token count, image shape and decoded text of each row."""
    log = folder / "loader.log"
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", LOADER, folder / "outputs/models/tiny-student"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    def load_rows(path: Path, mode: str = "train", max_length: int = 2048) -> list[dict[str, Any]]:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps([str(path), mode, max_length]) + "\n")
        process.stdin.flush()
        line = next((line for line in process.stdout if "FOUND" in line), None)
        assert line, log.read_text(encoding="utf-8")[-3000:]
        found: list[dict[str, Any]] = json.loads(line.split("FOUND")[1])
        return found

    yield load_rows
    assert process.stdin
    process.stdin.close()
    assert process.wait(30) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Correct answers to rendered pictures, and worse ones in another notation, as from another model."""
    folder = tmp_path_factory.mktemp("data")
    assert call(folder, "stage=render", "stage.train=48", "stage.heldout=8").returncode == 0
    student = [sys.executable, "-m", "vd100k.tiny", "student", folder / "outputs/models/tiny-student"]
    subprocess.run(student, check=True)
    data = folder / "outputs/data/scenes-42/scene"
    data.mkdir(parents=True)
    pictures = folder.absolute() / "outputs/images/scenes-42/train"
    for name in ("truth", "worse"):
        with (data / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for label in rows(folder / "outputs/images/scenes-42/train.jsonl"):
                answer = json.dumps(label["answer"]) if name == "truth" else str(tuple(label["answer"].values()))
                row = {"id": label["id"], "image": str(pictures / label["id"]), "model": name, "answer": answer}
                file.write(json.dumps({**row, "question": "Describe the picture as JSON."}) + "\n")
    return folder


PAIRS = ["experiment=demo", "answers=truth", "rejected=worse", "task.reader=text"]


def test_swift_loads_every_row_with_its_image(folder: Path, load: Load) -> None:
    system = ["experiment=demo", "answers=truth", "task.system_prompt='Be terse.'"]
    done = call(folder, "stage=convert", *system, "stage.split_dataset_ratio=0.2")
    assert done.returncode == 0, done.stderr
    counts, made = summary(folder)["counts"], folder / "outputs/data/scenes-42/scene/truth.swift"
    for side in ("train", "val"):
        found = load(made / f"{side}.jsonl")
        assert len(found) == counts[side] > 0, "swift drops rows that it cannot encode"
        for row in found:
            assert row["pixels"] == [64, 1176], "expected 8 x 8 patches of 2 x 3 x 14 x 14 values"
            assert "<|im_start|>system\nBe terse.<|im_end|>" in row["text"]
            assert row["text"].count("<|image_pad|>") == 16


def test_swift_loads_every_pair_with_its_image_and_both_answers(folder: Path, load: Load) -> None:
    done = call(folder, "stage=convert", *PAIRS, "stage.split_dataset_ratio=0")
    assert done.returncode == 0, done.stderr
    path = folder / "outputs/data/scenes-42/scene/truth-worse.swift/train.jsonl"
    found = load(path, "rlhf")
    assert len(found) == 48
    assert all(row["pixels"] == [64, 1176] for row in found)


def test_convert_and_swift_count_the_same_tokens(folder: Path, load: Load) -> None:
    """Convert keeps exactly the rows that swift would not drop at the same maximum length."""
    rows_path = folder / "outputs/data/scenes-42/scene/lengths.jsonl"
    shutil.copy(rows_path.with_name("truth.jsonl"), rows_path)
    first = rows(rows_path)[0]
    answers = ["é" * k + " ok" for k in range(60, 70)]
    lines = [json.dumps(first | {"answer": answer, "question": f"Q{k}?"}) for k, answer in enumerate(answers)]
    rows_path.write_text("\n".join(lines), encoding="utf-8")
    limit = ["experiment=demo", "answers=lengths", "task.reader=text", "stage.split_dataset_ratio=0"]
    assert call(folder, "stage=convert", *limit).returncode == 0
    path = folder / "outputs/data/scenes-42/scene/lengths.swift/train.jsonl"
    tokens = [row["tokens"] for row in load(path)]
    assert len(tokens) == 10
    middle = tokens[5]
    assert call(folder, "stage=convert", *limit, f"max_length={middle}").returncode == 0
    assert summary(folder)["counts"]["train"] == sum(count <= middle for count in tokens)
    assert len(load(path, max_length=middle)) == summary(folder)["counts"]["train"]


def test_preference_training_widens_the_margin(folder: Path) -> None:
    call(folder, "stage=convert", *PAIRS)
    steps = ["+stage.args.max_steps=24", "stage.args.logging_steps=2", "stage.args.per_device_train_batch_size=2"]
    done = call(folder, "stage=finetune", *PAIRS, "stage.method=dpo", *steps)
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = summary(folder)["metrics"]
    margins = [margin for _, margin in metrics["margin"]]
    assert len(margins) >= 12
    assert sum(margins[-3:]) / 3 > sum(margins[:3]) / 3 + 0.5
    assert metrics["loss"][-1][1] < metrics["loss"][0][1]
    assert (folder / "outputs/models/tiny-student/scenes-42-scene-truth-worse/loss.png").exists()
