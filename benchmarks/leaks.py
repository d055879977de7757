"""Measure the search for copies of images: what is found, what is wrongly joined, and time and memory.

    python -m benchmarks.leaks quality               # 500 planted copies among 100,000 different images
    python -m benchmarks.leaks quality --images 4000 # a smaller measurement of the same kind
    python -m benchmarks.leaks search                # time and memory of the search at 1,000,000 images

``quality`` draws pictures of shapes, small labels, printed forms and photograph-like textures, a quarter each, changes
some of them in six ways and different strengths, and looks for the copies. ``search`` works on random looks in a
new process for each number of images, because memory is that of a whole process. Results are printed as JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from vd100k.similarity.cache import NAMES, THUMBNAIL, LookCache, take
from vd100k.similarity.clusters import Collection
from vd100k.similarity.look import LOOK
from vd100k.tiny import manifests, scenes

WORDS = [
    "invoice",
    "order",
    "pallet",
    "dock",
    "total",
    "amount",
    "date",
    "number",
    "customer",
    "address",
    "city",
    "net",
]
KINDS = ("resized", "compressed", "cropped", "brightened", "grey", "blurred")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=["quality", "search", "one-search"])
    parser.add_argument("--images", type=int)
    parser.add_argument("--copies", type=int, default=500)
    args = parser.parse_args()
    if args.what == "quality":
        print(json.dumps(quality(args.images or 100_000, args.copies), indent=2))
    elif args.what == "one-search":
        print(json.dumps(one_search(args.images)))
    else:
        for images in [args.images] if args.images else [1000, 250_000, 1_000_000]:
            command = [sys.executable, "-m", "benchmarks.leaks", "one-search", "--images", str(images)]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


def quality(images: int, copies: int) -> dict[str, object]:
    """The share of planted copies that are found, and of different images that are joined."""
    rng = random.Random(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with LookCache(folder / "cache") as looks, Collection(looks) as collection:
            originals = draw(folder, images)
            planted = plant(folder, originals, copies, rng)
            for number, path in enumerate([*originals, *planted]):
                with Image.open(path) as image:
                    collection.add(number, looks.add(take(str(path), image.convert("RGB"), True)), 0, str(path))
            looked, began = time.monotonic() - began, time.monotonic()
            groups = collection.clusters()
            searched = time.monotonic() - began
    group_of = {Path(member.path): k for k, group in enumerate(groups) for member in group}
    found = Counter(kind for copy, (original, kind) in planted.items() if joined(group_of, copy, original))
    wrong = 0
    for group in groups:
        shown = {planted[Path(one.path)][0] if Path(one.path) in planted else Path(one.path) for one in group}
        wrong += len(shown) if len(shown) > 1 else 0
    total = Counter(kind for _, kind in planted.values())
    return {
        "images": images,
        "found": sum(found.values()) / copies,
        "found_by_change": {kind: f"{found[kind]} of {total[kind]}" for kind in KINDS},
        "wrongly_joined": wrong / images,
        "seconds_to_draw_and_look": round(looked),
        "seconds_to_search": round(searched),
    }


def joined(group_of: dict[Path, int], one: Path, other: Path) -> bool:
    return one in group_of and group_of[one] == group_of.get(other)


def draw(folder: Path, count: int) -> list[Path]:
    kinds: list[tuple[str, Callable[[random.Random], Image.Image]]] = [
        ("scene.png", lambda rng: scenes.draw(rng)[0]),
        ("label.png", lambda rng: manifests.draw(rng)[0]),
        ("form.jpg", form),
        ("texture.jpg", texture),
    ]
    paths = []
    for k in range(count):
        name, make = kinds[k % len(kinds)]
        path = folder / f"{k:06d}-{name}"
        make(random.Random(k)).save(path, quality=92)
        paths.append(path)
    return paths


def form(rng: random.Random) -> Image.Image:
    """A printed form; all have the same layout, and their words and numbers differ."""
    image = Image.new("RGB", (500, 700), (rng.randint(235, 255),) * 3)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(18)
    pen.text((40, 30), f"Delivery note {rng.randrange(10**6):06d}", font=ImageFont.load_default(30), fill=(20, 20, 20))
    for k in range(rng.randint(12, 26)):
        y = 90 + k * 22
        pen.text((40, y), " ".join(rng.choice(WORDS) for _ in range(3)), font=font, fill=(30, 30, 30))
        pen.text((330, y), f"{rng.random() * 99999:08.2f}", font=font, fill=(30, 30, 30))
    return image


def texture(rng: random.Random) -> Image.Image:
    """Random colours at all scales, as in a photograph, with a few plain things."""
    pixels, size = np.zeros((240, 320, 3)), (320, 240)
    noise = np.random.default_rng(rng.randrange(2**32))
    for octave in range(1, 7):
        cells = (noise.random((2**octave * 3 // 4 + 1, 2**octave + 1, 3)) * 255).astype(np.uint8)
        grown = Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)
        pixels += np.asarray(grown, float) * 0.62**octave
    pixels = (pixels - pixels.min()) * (255 / np.ptp(pixels))
    image = Image.fromarray(pixels.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(0, 4)):
        x, y, side = rng.randrange(320), rng.randrange(240), rng.randint(10, 60)
        pen.rectangle((x, y, x + side, y + side), fill=tuple(rng.randbytes(3)))
    return image


def plant(folder: Path, originals: list[Path], count: int, rng: random.Random) -> dict[Path, tuple[Path, str]]:
    """Changed copies of some images, with the original and the kind of change of each."""
    planted = {}
    for k, original in enumerate(rng.sample(originals, count)):
        kind = KINDS[k % len(KINDS)]
        with Image.open(original) as image:
            changed = change(image.convert("RGB"), kind, rng)
        path = folder / f"copy-{k:04d}.png"
        changed.save(path)
        planted[path] = original, kind
    return planted


def change(image: Image.Image, kind: str, rng: random.Random) -> Image.Image:
    """A copy of an image with one kind of change of a random strength; half of them are compressed in addition."""
    width, height = image.size
    if kind == "resized":
        scale = rng.choice([rng.uniform(0.5, 0.9), rng.uniform(1.1, 2)])
        image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    elif kind == "compressed":
        return compressed(image, rng.randint(30, 85))
    elif kind == "cropped":
        left, top, right, bottom = (rng.uniform(0, 0.04) for _ in range(4))
        box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
        image = image.crop(tuple(map(round, box)))  # type: ignore[arg-type]
        image = image.resize((width, height), Image.Resampling.BICUBIC) if rng.random() < 0.4 else image
    elif kind == "brightened":
        factor = rng.choice([rng.uniform(1.08, 1.35), rng.uniform(0.75, 0.93)])
        image = ImageEnhance.Brightness(image).enhance(factor)
    elif kind == "grey":
        image = image.convert("L")
    else:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.5)))
    return compressed(image, rng.randint(75, 95)) if rng.random() < 0.5 else image


def compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def one_search(images: int) -> dict[str, float]:
    """The whole search among random looks on disk, every thousandth of which has the same file as the one before."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / NAMES[0]).open("wb") as file:
            for start in range(0, images, 10_000):
                rows = np.frombuffer(rng.bytes(min(10_000, images - start) * LOOK.itemsize), LOOK).copy()
                rows["size"] = 112
                rows[1::1000]["content"] = rows[: len(rows) - 1 : 1000]["content"]
                rows.tofile(file)
        with (folder / NAMES[1]).open("wb") as file:
            file.truncate(images * THUMBNAIL)  # black, and on most file systems without taking space
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        with LookCache(folder) as looks, Collection(looks) as collection:
            for number in range(images):
                collection.add(number, number, 0, f"{number:08d}.jpg")
            groups = collection.clusters()
        seconds, cpu = time.monotonic() - began, time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "images": images,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "found": len(groups) / len(range(1, images, 1000)),
        "mib_before": round(before / 1024),
        "mib_at_most": round(peak / 1024),
    }


if __name__ == "__main__":
    main()
