"""Measure the search for copies of images: what is found, what is wrongly joined, and time and memory.

    python -m benchmarks.leaks quality                                  # 600 planted copies among 100,000 images
    python -m benchmarks.leaks quality --images 4000 --pictures unseen  # among kinds of pictures that were not tuned on
    python -m benchmarks.leaks search                                   # time and memory of up to 1,000,000 images

``quality`` draws different pictures (``benchmarks.leak_pictures``), changes some of them in six ways and different
strengths, or in two of these ways, and looks for the copies; the share that is found is of those with one change.
``search`` works on random looks in a new process for each number of images, because memory is that of a whole process.
Results are printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.leak_pictures import CHANGES, KNOWN, PHOTOGRAPHS, TWO, UNSEEN, VARIED, Draw, change
from vd100k.similarity.cache import NAMES, THUMBNAIL, LookCache, Taken, take
from vd100k.similarity.clusters import Collection
from vd100k.similarity.look import LOOK

PICTURES = {"varied": VARIED, "known": KNOWN, "unseen": UNSEEN, "all": [*VARIED, *KNOWN, *UNSEEN]}
KINDS = (*CHANGES, TWO)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=["quality", "search", "one-search"])
    parser.add_argument("--images", type=int)
    parser.add_argument("--copies", type=int, default=600)
    parser.add_argument("--pictures", choices=PICTURES, default="varied")
    parser.add_argument("--folder", type=Path, help="keeps the pictures, and uses those that it has")
    args = parser.parse_args()
    if args.what == "quality":
        with tempfile.TemporaryDirectory() as temporary:
            draws, folder = PICTURES[args.pictures], args.folder or Path(temporary)
            print(json.dumps(quality(draws, folder, args.images or 100_000, args.copies), indent=2))
    elif args.what == "one-search":
        print(json.dumps(one_search(args.images)))
    else:
        for images in [args.images] if args.images else [1000, 100_000, 1_000_000]:
            command = [sys.executable, "-m", "benchmarks.leaks", "one-search", "--images", str(images)]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


def quality(draws: list[Draw], folder: Path, images: int, copies: int) -> dict[str, object]:
    """The share of planted copies that are found, and of different images that are joined."""
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with LookCache(folder / "cache") as looks, Collection(looks) as collection:
        originals = [drawn(folder, draws[number % len(draws)], number) for number in range(images)]
        planted = plant(folder, originals, copies)
        paths = [*map(str, originals), *map(str, planted)]
        with ProcessPoolExecutor() as processes:
            missing = [path for path in paths if looks.find(path) is None]
            for taken in processes.map(looked_at, missing, chunksize=100):
                looks.add(taken)
        looks.index()
        for number, path in enumerate(paths):
            look = looks.find(path)
            assert look is not None
            collection.add(number, look, 0, path)
        looked, began = time.monotonic() - began, time.monotonic()
        groups = collection.clusters()
        searched = time.monotonic() - began
    group_of = {Path(member.path): k for k, group in enumerate(groups) for member in group}
    missed = [
        (kind, original.stem)
        for copy, (original, kind) in planted.items()
        if copy not in group_of or group_of[copy] != group_of.get(original)
    ]
    wrong: list[list[str]] = []
    for group in groups:
        shown = {planted[Path(one.path)][0] if Path(one.path) in planted else Path(one.path) for one in group}
        wrong += [sorted(one.stem for one in shown)] if len(shown) > 1 else []
    of_six = Counter(kind != TWO for _, kind in planted.values())[True]
    return {
        "images": images,
        "copies": of_six,
        "found": 1 - sum(kind != TWO for kind, _ in missed) / of_six,
        "wrongly_joined": sum(map(len, wrong)) / images,
        "missed_by_change": Counter(kind for kind, _ in missed),
        "missed_by_picture": Counter(name.partition("-")[2] for _, name in missed),
        "planted_by_change": Counter(kind for _, kind in planted.values()),
        "wrong_by_picture": Counter(name.partition("-")[2] for names in wrong for name in names),
        "wrong_groups": wrong[:50],
        "missed": missed,
        "seconds_to_look": round(looked),
        "seconds_to_search": round(searched),  # on all cores
    }


def looked_at(path: str) -> Taken:
    """The look of a picture."""
    with Image.open(path) as image:
        return take(path, image.convert("RGB"), True)


def drawn(folder: Path, draw: Draw, number: int) -> Path:
    """The picture with this number, which is drawn if the folder does not have it."""
    suffix = "jpg" if draw in PHOTOGRAPHS else "png"
    path = folder / f"{number:06d}-{draw.__name__}.{suffix}"
    if not path.exists():
        draw(random.Random(number)).save(path, quality=93, compress_level=1)
    return path


def plant(folder: Path, originals: list[Path], count: int) -> dict[Path, tuple[Path, str]]:
    """Changed copies of some images, with the original and the kind of change of each."""
    rng, planted = random.Random(1), {}
    for k, original in enumerate(rng.sample(originals, count)):
        kind = KINDS[k % len(KINDS)]
        path = folder / f"copy-{k:04d}.png"
        with Image.open(original) as image:
            change(image.convert("RGB"), kind, rng).save(path)
        planted[path] = original, kind
    return planted


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
