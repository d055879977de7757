"""Train on the same questions and answers twice: as single rows, and as one conversation about each image.

    python -m benchmarks.turns                      # 32 images with 4 questions each, one epoch of the tiny student

Both trainings see every answer once, in batches with the same number of answers. The benchmark prints a table with the
rows, the tokens and the seconds of both, and writes ``benchmarks/results/turns.json``. Tokens are counted as ms-swift
counts them, padding left out; seconds are those that ms-swift reports, without its start.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from vd100k.conversion.token_lengths import TokenLengths
from vd100k.images.resizing import SizeRule
from vd100k.io.jsonl import read_rows, write
from vd100k.tiny import checkpoint

ROOT = Path(__file__).parent.parent
SIDE, TOKEN_SIDE, LEAST_PIXELS = 448, 28, 3136  # pixels of the images; the size rule of Qwen2-VL
SYSTEM = "You are a helpful assistant."
STUDENT = "outputs/models/tiny-student"
QUESTIONS = ["What is in the picture?", "Which colour does it have?", "Where is it?", "What stands beside it?"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "turns.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack_student(folder / STUDENT)
        source = write_rows(folder, args.images)
        results = [measure(folder, source, turns) for turns in ("separate", "merge")]
    report(results)
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def unpack_student(folder: Path) -> None:
    """Write the tiny student, with a cap that lets the images through at their full size."""
    checkpoint.unpack("student", folder)
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["max_pixels"] = SIDE * SIDE
    if "size" in settings:
        settings["size"]["longest_edge"] = SIDE * SIDE
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def write_rows(folder: Path, count: int) -> Path:
    """Draw images, and write four rows about each."""
    rng, rows = random.Random(0), []
    (folder / "images").mkdir()
    for k in range(count):
        image = Image.new("RGB", (SIDE, SIDE), tuple(rng.randrange(256) for _ in range(3)))
        image.save(folder / f"images/{k:03d}.png")
        for n, question in enumerate(QUESTIONS):
            answer = f"Answer {n} about picture {k}: a thing with {rng.randrange(100)} parts, beside another."
            rows.append({"image": f"{k:03d}.png", "question": question, "answer": answer})
    write(folder / "rows.jsonl", rows)
    return folder / "rows.jsonl"


def measure(folder: Path, source: Path, turns: str) -> dict[str, Any]:
    """Convert and train in one of the two ways."""
    common = [f"dataset={turns}", "answers=rows", "model=tiny-student", f"model.max_pixels={SIDE * SIDE}"]
    convert = [f"stage.source={source}", f"image_folder={folder / 'images'}", "stage.split_dataset_ratio=0"]
    call(folder, "stage=convert", *common, *convert, f"stage.turns={turns}")
    path = folder / f"outputs/data/{turns}/details/rows.swift/train.jsonl"
    records = list(read_rows(path))
    batch = 4 if turns == "separate" else 1
    args = [f"stage.args.{key}" for key in (f"per_device_train_batch_size={batch}", "num_train_epochs=1")]
    args += ["stage.args.gradient_accumulation_steps=2", "stage.args.dataset_num_proc=1"]
    call(folder, "stage=finetune", *common, *args)
    return {
        "turns": turns,
        "rows": len(records),
        "answers": sum(message["role"] == "assistant" for record in records for message in record["messages"]),
        "tokens": sum(tokens(folder, record) for record in records),
        "seconds": trained_s(folder / STUDENT / f"{turns}-details-rows"),
    }


def tokens(folder: Path, record: dict[str, Any]) -> int:
    """The tokens of a training row."""
    rule = SizeRule(TOKEN_SIDE, LEAST_PIXELS, SIDE * SIDE)
    lengths = TokenLengths(str(folder / STUDENT), SYSTEM, rule, max_length=0)  # every row has more, and is counted
    texts = [message["content"] for message in record["messages"] if message["role"] != "system"]
    return lengths.excess(list(zip(texts[::2], texts[1::2], strict=True)), [(SIDE, SIDE)]) or 0


def trained_s(tuned: Path) -> float:
    """The seconds of a training, from ms-swift's log."""
    [log] = tuned.glob("checkpoints-*/logging.jsonl")
    return next(float(line["train_runtime"]) for line in read_rows(log) if "train_runtime" in line)


def call(folder: Path, *overrides: str) -> None:
    command = [sys.executable, str(ROOT / "run.py"), *overrides, "tracking=none"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def report(results: list[dict[str, Any]]) -> None:
    table = Table(title=f"The same answers about images of {SIDE} x {SIDE} pixels", title_justify="left")
    for name in ("turns", "rows", "answers", "tokens", "seconds"):
        table.add_column(name, justify="right")
    for one in results:
        table.add_row(
            one["turns"], *(f"{one[name]:,}" for name in ("rows", "answers", "tokens")), f"{one['seconds']:.1f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
