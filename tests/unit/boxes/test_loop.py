"""Boxes from a model's answer to training files and evaluations: whatever the sizes, they stay the same."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from PIL import Image, ImageDraw

from tests.chat_server import chat_server
from vd100k import stages
from vd100k.boxes import frames
from vd100k.boxes.box import Box, from_row
from vd100k.boxes.matching import agreement
from vd100k.boxes.notations import NOTATIONS
from vd100k.config.run import Run
from vd100k.images.resizing import SizeRule
from vd100k.io import jsonl
from vd100k.io.jsonl import read_rows

COUNT = 100
CAP = 401_408  # about half of the images are larger


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Box]]]:
    """Pictures of one to three rectangles in many sizes, some turned by their EXIF tag, and the boxes by name."""
    folder, boxes, rng = tmp_path_factory.mktemp("shapes"), {}, random.Random(0)
    for number in range(COUNT):
        size = rng.randint(300, 1000), rng.randint(300, 1000)
        image = Image.new("RGB", size, _colour(number))
        pen, drawn = ImageDraw.Draw(image), []
        for k in range(rng.randint(1, 3)):
            width, height = (rng.randint(side // 4, side // 2) for side in size)
            x, y = rng.randint(20, size[0] - width), rng.randint(20, size[1] - height)
            pen.rectangle((x, y, x + width - 1, y + height - 1), fill=(255, 255, 255 - k))
            drawn.append(Box(f"shape {k}", (x, y, x + width, y + height)))
        name = f"{number:03}.png"
        turned, exif = image, Image.Exif()
        if number % 4 == 0:  # stored sideways, and shown upright
            exif[0x0112] = 6
            turned = image.transpose(Image.Transpose.ROTATE_90)
        turned.save(folder / name, compress_level=1, exif=exif)
        boxes[name] = drawn
    return folder, boxes


def _colour(number: int) -> tuple[int, int, int]:
    """A background that tells which image it is, also after the image has been reduced."""
    return number % 16 * 10, number // 16 % 16 * 10, number // 256 * 10


def _number(image: Image.Image) -> int:
    pixel = image.convert("RGB").getpixel((3, 3))
    assert isinstance(pixel, tuple)
    low, middle, high = (round(part / 10) for part in pixel)
    return low + 16 * middle + 256 * high


@pytest.mark.parametrize("notation", NOTATIONS)
def test_boxes_stay_the_same_from_an_answer_to_training_text_and_evaluation(
    parsed: Callable[..., Run], tmp_path: Path, shapes: tuple[Path, dict[str, list[Box]]], notation: str
) -> None:
    folder, boxes = shapes
    frame = frames.named(notation, SizeRule(28, 3136, CAP))
    answers = {}
    for name, some in boxes.items():
        with Image.open(folder / name) as image:
            size = image.size[::-1] if image.getexif().get(0x0112) == 6 else image.size
        answers[name] = frame.write(some, size)

    def reply(number: int, body: dict[str, Any]) -> str:
        content = body["messages"][-1]["content"][0]["image_url"]["url"].partition(",")[2]
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            return answers[f"{_number(image):03}.png"]

    common = [
        *("task=grounding", "tracking=none", "model=qwen2-vl-2b", f"model.max_pixels={CAP}", f"images={folder}"),
        *(f"model.box_notation={notation}", f"output_dir={tmp_path / 'outputs'}", "hardware=api"),
    ]
    with chat_server(reply, "Qwen2-VL-2B-Instruct") as server:
        urls = [f"hardware.urls=[{server.url}]"]
        run = parsed("stage=generate", "stage.check=false", *common, *urls)
        stages.execute(run, tmp_path / "generate", [])
        rows = {row["id"]: row for row in read_rows(run.paths.rows)}
        assert all(row["answer"] == answers[id] for id, row in rows.items())
        ious = [agreement(from_row(rows[id]["boxes"]), some).mean_iou for id, some in boxes.items()]
        assert len(ious) == COUNT
        assert mean(ious) >= 0.99

        jsonl.write(tmp_path / "labels.jsonl", [{"id": id, "boxes": row["boxes"]} for id, row in rows.items()])
        heldout = [f"stage.images={folder}", f"stage.labels={tmp_path / 'labels.jsonl'}", "stage.sides=[before]"]
        ask = ["stage.ask.check=false"]
        summary = stages.execute(
            parsed("stage=evaluate", "dataset=d", *heldout, *ask, *common, *urls), tmp_path / "evaluate", []
        )
        assert summary.metrics["before"]["mean_iou"] >= 0.999
        assert summary.metrics["before"]["iou_over_half"] == 1
    run = parsed("stage=convert", "format=sharegpt", "answers=qwen2-vl-2b", "stage.split_dataset_ratio=0", *common)
    stages.execute(run, tmp_path / "convert", [])
    trained = json.loads((run.stage.folder / "train.json").read_text())
    ious = []
    for id, record in zip(rows, trained, strict=True):
        with Image.open(record["images"][0]) as image:  # a plain copy of those that are turned
            again = frame.read(record["conversations"][1]["value"], image.size)
        ious.append(agreement(again, boxes[id]).mean_iou)
    assert mean(ious) >= 0.99
