"""The boxes that ms-swift trains on are those that the family answers, in the words of the same notation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from vd100k import stages
from vd100k.boxes import frames
from vd100k.boxes.box import Box
from vd100k.config.run import Run
from vd100k.engines import commands
from vd100k.io import jsonl
from vd100k.io.jsonl import read_rows
from vd100k.tiny import random_checkpoint

pytestmark = pytest.mark.engine

CAP = 1_003_520
SIZES = [(4032, 3024), (1920, 1080), (1000, 700), (112, 112)]
LABELS = ["dog", 'a "large" cat', "红色的车"]

# Prints the text that ms-swift trains on for each row of a training file.
TRAINED = """
import json, sys
from swift.model import get_processor
from swift.template import get_template
folder, family, path = sys.argv[1:]
template = get_template(get_processor(folder, model_type=family), template_type=family)
template.set_mode("train")
found = []
for line in open(path, encoding="utf-8"):
    labels = template.encode(json.loads(line))["labels"]
    found.append(template.tokenizer.decode([token for token in labels if token >= 0]))
print("FOUND" + json.dumps(found))
"""


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_ms_swift_trains_on_the_answers_of_the_family(parsed: Callable[..., Run], tmp_path: Path, family: str) -> None:
    rows, boxes = [], [Box(label, (k + 1, 2, 60 + k * 10, 50 + k * 20)) for k, label in enumerate(LABELS)]
    for number, size in enumerate(SIZES):
        Image.new("RGB", size, "white").save(tmp_path / f"{number}.jpg")
        rows.append({"image": f"{number}.jpg", "question": "q", "boxes": [box.as_row() for box in boxes]})
    jsonl.write(tmp_path / "t.jsonl", rows)
    chosen = [
        *("dataset=d", "task=grounding", "tracking=none", "model=qwen2-vl-2b", f"model.max_pixels={CAP}"),
        *(f"model.model_type={family}", f"output_dir={tmp_path / 'outputs'}"),
    ]
    converted = parsed("stage=convert", f"stage.source={tmp_path / 't.jsonl'}", "stage.split_dataset_ratio=0", *chosen)
    stages.execute(converted, tmp_path / "run", [])
    path = converted.stage.folder / "train.jsonl"
    command = commands.train(parsed("stage=finetune", *chosen).stage, tmp_path)
    folder = tmp_path / "model"
    random_checkpoint.save_settings(family, folder)
    done = subprocess.run(
        [sys.executable, "-c", TRAINED, str(folder), family, str(path)],
        env={**os.environ, **command.env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "FOUND" in done.stdout, done.stderr[-3000:]
    trained = json.loads(done.stdout.split("FOUND")[1])
    assert len(list(read_rows(path))) == len(trained) == len(SIZES)
    frame = frames.of(converted.model)
    for size, text in zip(SIZES, trained, strict=True):
        assert text.removesuffix("\n").removesuffix("<|im_end|>") == frame.write(boxes, size)
