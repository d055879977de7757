"""A million images: time to the first request, peak memory, and the same for a resumed run.

    python -m benchmarks.million                 # 10,000 and 1,000,000 images; takes some minutes
    python -m benchmarks.million --seconds 3600  # run for up to an hour instead of two minutes

The images are hard links to a few small files. The local server has no latency. The benchmark prints a table and
writes ``benchmarks/results/million.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.server import running, seen

HERE = Path(__file__).parent
ROOT = HERE.parent
LINKS = 50_000  # hard links per file; ext4 allows 65,000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--seconds", type=float, default=120, help="interrupt each run after this many seconds")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "million.json")
    args = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for count in args.images:
            place = Path(folder) / str(count)
            listed = draw(place / "images", count)
            for source in ("images", listed.name):
                results.append(measure(place, source, count, args.seconds))
            answer(place, count, count * 9 // 10)
            results.append(measure(place, "images", count, args.seconds, "resumed") | {"done": count * 9 // 10})
    table = Table("images", "source", "answered before", "first request s", "requests", "peak MB", "exit")
    for r in results:
        first = f"{r['first_s']:.1f}"
        table.add_row(
            f"{r['images']:,}",
            r["source"],
            f"{r.get('done', 0):,}",
            first,
            f"{r['requests']:,}",
            f"{r['peak_mb']:.0f}",
            str(r["exit"]),
        )
    Console().print(table)
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def draw(folder: Path, count: int) -> Path:
    """Create the images, and beside their folder a list of them. Return the path of the list."""
    folder.mkdir(parents=True)
    for k in range(count):
        path = folder / f"{k:07d}.png"
        if k % LINKS == 0:
            Image.new("RGB", (28, 28), (k // LINKS, 0, 0)).save(path)
            original = path
        else:
            path.hardlink_to(original)
    listed = folder.parent / "list.jsonl"
    with listed.open("w", encoding="utf-8") as file:
        file.writelines(f'{{"image": "images/{k:07d}.png"}}\n' for k in range(count))
    return listed


def command(source: str, dataset: str, url: str) -> list[str]:
    return [
        *(sys.executable, str(ROOT / "run.py"), "stage=generate", f"images={source}", "hardware=api", "tracking=none"),
        *(f"hardware.urls=[{url}]", "model=gpt-4o", "model.served_name=m", "model.api_key_env=null"),
        *("stage.max_in_flight=64", "stage.check=false", f"dataset={dataset}"),
    ]


def measure(place: Path, source: str, count: int, seconds: float, dataset: str = "") -> dict[str, Any]:
    with running() as url, (place / "log.txt").open("ab") as log:
        began = time.time()
        process = subprocess.Popen(
            command(source, dataset or Path(source).stem, url), cwd=place, stdout=log, stderr=log
        )
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                break
            if time.time() > began + seconds:
                process.send_signal(signal.SIGINT)
                seconds = float("inf")
            time.sleep(0.05)
        times = [when for when, _, _ in seen(url)]
    return {
        "images": count,
        "source": source,
        "first_s": min(times) - began,
        "requests": len(times),
        "peak_mb": usage.ru_maxrss / 1024 * 1.048576,
        "exit": process.returncode,
    }


def answer(place: Path, count: int, done: int) -> None:
    """Write a ledger with answers for the first ``done`` images."""
    with running() as url:
        subprocess.run([*command("images", "resumed", url), "limit=1"], cwd=place, check=True, capture_output=True)
    path = place / "outputs/data/resumed/details/gpt-4o.jsonl"
    row = orjson.loads(path.read_bytes())
    with path.open("wb") as file:
        for k in range(done):
            image = place / f"images/{k:07d}.png"
            row |= {"id": image.name, "image": str(image), "answer": f"A picture in which {k} things can be seen. " * 6}
            file.write(orjson.dumps(row | {"image_mtime_ns": image.stat().st_mtime_ns}) + b"\n")


if __name__ == "__main__":
    main()
