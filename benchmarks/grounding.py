"""Teach the tiny student to answer boxes, and measure its mean IoU before and after, served by vLLM.

``python -m benchmarks.grounding`` draws pictures of one shape whose edges lie on the borders of visual tokens, trains
the whole student on their boxes in the notation of Qwen2-VL, and asks it about unseen pictures of many sizes with
``stage=evaluate task=grounding``.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from vd100k.boxes import frames
from vd100k.boxes.box import Box
from vd100k.images.resizing import SizeRule
from vd100k.tiny import checkpoint
from vd100k.tiny.lessons import Lesson
from vd100k.tiny.scenes import COLOURS
from vd100k.tiny.train import UNSEEN_SEED, Course, build, draw_all, fit, state

ROOT = Path(__file__).parent.parent
SIDE, TOKEN = 112, 28  # pixels of a picture and of a visual token
SHAPES = ("square", "circle", "triangle")
FRAME = frames.named("thousandths-tokens", SizeRule(TOKEN, TOKEN**2, SIDE**2))
QUESTION = "Locate every object in the image: give the bounding box and the label of each."  # conf/task/grounding.yaml


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--heldout", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--place", type=Path, help="a folder that is kept; a temporary one is the default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = args.place or Path(scratch)
        draw_heldout(place / "heldout", args.heldout)
        began = time.monotonic()
        train(place / "model", args.images, args.steps, args.learning_rate)
        print(f"trained in {time.monotonic() - began:.0f} s", flush=True)
        before = evaluate(place, "model=tiny-student")
        after = evaluate(place, "model=tiny-student", f"model.path={place / 'model'}", "model.name=boxes")
    print(f"| | mean IoU | IoU over 0.5 |\n|---|---|---|\n{_line('before', before)}\n{_line('after', after)}")


def draw(rng: random.Random) -> tuple[Image.Image, Box]:
    """A picture of one shape, and its box."""
    spans = [sorted(rng.sample(range(0, SIDE + 1, TOKEN), 2)) for _ in "xy"]
    (x1, x2), (y1, y2) = spans
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    grey = rng.randint(215, 250)
    image = Image.new("RGB", (SIDE, SIDE), (grey, grey, grey))
    pen = ImageDraw.Draw(image)
    paint = tuple(min(255, max(0, part + rng.randint(-12, 12))) for part in COLOURS[colour])
    inside = (x1, y1, x2 - 1, y2 - 1)
    if shape == "square":
        pen.rectangle(inside, fill=paint)
    elif shape == "circle":
        pen.ellipse(inside, fill=paint)
    else:
        pen.polygon([((x1 + x2) / 2, y1), (x1, y2 - 1), (x2 - 1, y2 - 1)], fill=paint)
    return image, Box(f"{colour} {shape}", (x1, y1, x2, y2))


def lessons(box: Box, rng: random.Random) -> list[Lesson]:
    return [(QUESTION, FRAME.write([box], (SIDE, SIDE)))]


def train(folder: Path, images: int, steps: int, learning_rate: float) -> None:
    """Train the whole student, and write it as a checkpoint."""
    torch.manual_seed(0)
    model, processor = build(checkpoint.tensors("student"))
    pictures, boxes = draw_all(draw, images, 0)
    course = Course(draw, lessons, steps, learning_rate, system_share=1.0)
    fit(model, processor, pictures, boxes, course, 32, random.Random(0))
    checkpoint.save(state(model), folder)


def draw_heldout(folder: Path, count: int) -> None:
    """Unseen pictures, enlarged to many sizes, and ``labels.jsonl`` with their boxes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        rng = random.Random(UNSEEN_SEED + number)
        image, box = draw(rng)
        scale = rng.randint(1, 5)
        name = f"{number:03}.png"
        image.resize((SIDE * scale, SIDE * scale)).save(folder / name)
        larger = Box(box.label, tuple(corner * scale for corner in box.corners))  # type: ignore[arg-type]
        rows.append(json.dumps({"id": name, "boxes": [larger.as_row()]}))
    (folder.parent / "labels.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def evaluate(place: Path, *overrides: str) -> dict[str, Any]:
    """The figures of a model, served by vLLM."""
    command = [
        *(sys.executable, str(ROOT / "run.py"), "stage=evaluate", "hardware=cpu", "task=grounding"),
        *("task.language=en", "tracking=none", "dataset=shapes", f"stage.images={place / 'heldout'}"),
        *(f"stage.labels={place / 'labels.jsonl'}", "stage.sides=[before]", "task.sampling.max_tokens=64"),
        *(f"output_dir={place / 'outputs'}", "hardware.start_timeout_s=900", *overrides),
    ]
    subprocess.run(command, cwd=place, check=True)
    summary = json.loads((place / "outputs/latest/summary.json").read_text(encoding="utf-8"))
    figures: dict[str, Any] = summary["metrics"]["before"]
    return figures


def _line(name: str, figures: dict[str, Any]) -> str:
    return f"| {name} | {figures['mean_iou']:.3f} | {100 * figures['iou_over_half']:.0f} % |"


if __name__ == "__main__":
    main()
