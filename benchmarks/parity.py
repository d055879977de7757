"""False alarms of stage=parity: rows of mixed sizes that nothing is wrong with, and the seconds that it takes.

    python -m benchmarks.parity [ROWS] [FAMILY …]

For each family (default: all), ROWS rows (default 500) are drawn: images from 28 to about 1,300 pixels a side, as PNG,
JPEG and WebP, noise among them, some grey, some over the cap; rows with two images, three turns, or no image. The
second line of a family is the certificate that a pipeline makes, of the 24 most extreme rows.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vd100k.tiny import random_checkpoint

ROOT = Path(__file__).resolve().parent.parent
CAP = 401_408  # a whole number of visual tokens of every family
SIDE = 632  # pixels of a square image of that size
FAMILIES = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
CERTIFICATE = 24


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = draw(folder, rows)
        for family in sys.argv[2:] or FAMILIES:
            random_checkpoint.make(family, folder / family)
            for compared in (rows, CERTIFICATE):
                found = certify(folder, folder / family, data, compared)
                counts = ", ".join(f"{count} {name}" for name, count in found["counts"].items())
                print(f"{family}: {counts} in {found['seconds']} s", *found["causes"], sep="\n  ", flush=True)


def certify(folder: Path, model: Path, data: Path, rows: int) -> dict[str, Any]:
    """The parity.json of a run of stage=parity."""
    overrides = [
        *("stage=parity", "model=hf", f"model.path={model}", f"model.max_pixels={CAP}", "dataset=d", "tracking=none"),
        *(
            "model.images_per_prompt=2",
            "hardware.max_model_len=8192",
            "max_length=8192",
            f"output_dir={folder}/outputs",
        ),
        *(f"stage.train.args.dataset={data}", f"stage.rows={rows}", "stage.if_different=warn"),
    ]
    subprocess.run([sys.executable, str(ROOT / "run.py"), *overrides], check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads((folder / "outputs/latest/parity.json").read_text(encoding="utf-8"))
    return found


def draw(folder: Path, rows: int) -> Path:
    """Draw the images and write the training file."""
    rng, path = random.Random(1), folder / "train.jsonl"
    (folder / "images").mkdir()
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            images = 0 if number % 13 == 3 else 2 if number % 5 == 1 else 1
            names = [picture(folder / "images", f"{number}-{k}", rng) for k in range(images)]
            file.write(json.dumps({"messages": messages(images, 3 if number % 5 == 2 else 1), "images": names}) + "\n")
    return path


def messages(images: int, turns: int) -> list[dict[str, str]]:
    written = []
    for turn in range(turns):
        tags = "" if turn else "<image>" * images
        written.append({"role": "user", "content": f"{tags}What does it show, {turn}? 这是什么？"})
        written.append({"role": "assistant", "content": f"Circles.\nNumber {turn}: 圆。"})
    return written


def picture(folder: Path, name: str, rng: random.Random) -> str:
    """A drawing, smooth colours, or noise; of any shape."""
    width, height = (max(28, round(SIDE * 2 ** rng.uniform(-4, 1))) for _ in range(2))
    pixels = np.random.default_rng(rng.randrange(1 << 30))
    kind = rng.choice(["drawing", "smooth", "noise"])
    if kind == "noise":
        image = Image.fromarray(pixels.integers(0, 256, (height, width, 3), dtype=np.uint8))
    elif kind == "smooth":
        small = pixels.integers(0, 256, (max(2, height // 60), max(2, width // 60), 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    else:
        image = Image.new("RGB", (width, height), "white")
        pen = ImageDraw.Draw(image)
        for _ in range(12):
            x, y = rng.randrange(width), rng.randrange(height)
            pen.ellipse((x, y, x + width // 5, y + height // 5), fill=tuple(rng.randrange(256) for _ in range(3)))
            pen.text((rng.randrange(width), rng.randrange(height)), "Number 123", fill="black")
    path = folder / f"{name}.{rng.choice(['png', 'jpg', 'webp'])}"
    (image.convert("L") if rng.random() < 0.1 else image).save(path)
    return str(path)


if __name__ == "__main__":
    main()
