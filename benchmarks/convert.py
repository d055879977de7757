"""Compare ``stage=convert`` with a plain loop that reads and writes the same rows: throughput and peak memory.

    python -m benchmarks.convert                    # 10,000 to 1,000,000 rows, image checks off
    python -m benchmarks.convert --rows 10000 --processes 2
    python -m benchmarks.convert --images 2000      # image checks on, beside decoding the same images

Each measurement runs in a new process. They alternate, so that other load on the machine slows all of them. The
benchmark prints a table and writes ``benchmarks/results/convert.json``. The peak memory is that of the process that was
started, and that of all its processes together (what they share counted once, sampled 50 times a second).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
CHECKS_OFF = [f"stage.rules.image_{rule}=false" for rule in ("missing", "unreadable", "changed", "small")]
CHECKS_OFF.append("image_folder=/data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--images", type=int, help="check so many images instead, four rows about each")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "convert.json")
    parser.add_argument("--alone", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps((decode if args.images else plain)(*args.alone)))
        return
    results: list[dict[str, Any]] = []
    sizes = [4 * args.images] if args.images else args.rows
    with tempfile.TemporaryDirectory() as folder:
        for rows in sizes:
            source = write_rows(Path(folder) / f"{rows}.jsonl", rows, draw(Path(folder), args.images))
            for _ in range(args.repeats):
                results.append({"rows": rows, "what": "alone", **measure_alone(source, args.images)})
                for count in args.processes:
                    measured = measure_convert(source, count, args.images)
                    results.append({"rows": rows, "what": f"{count} processes", **measured})
    report(results, sizes, args.processes, "decoding alone" if args.images else "plain loop")
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def draw(folder: Path, count: int | None) -> Path:
    """The folder of the images that rows are about; so many are drawn there, of the size and detail of photos."""
    if not count:
        return Path("/data/photos")
    from PIL import Image

    (folder / "photos").mkdir()
    for k in range(count):
        noise = Image.effect_noise((64, 48), 90).resize((1024, 768), Image.Resampling.BICUBIC)
        tint = Image.new("RGB", noise.size, (k * 37 % 256, k * 91 % 256, k * 53 % 256))
        Image.blend(noise.convert("RGB"), tint, 0.4).save(folder / f"photos/{k:07d}.jpg", quality=90)
    return folder / "photos"


def write_rows(path: Path, count: int, images: Path) -> Path:
    """Write rows like those of ``stage=generate``: four questions per image, answers of about a hundred characters."""
    with path.open("wb") as file:
        for k in range(count):
            row = {
                "id": f"photos/{k // 4:07d}.jpg",
                "image": f"{images}/{k // 4:07d}.jpg",
                "question": f"What is the colour of thing {k % 4} in picture number {k // 4}?",
                "answer": f"Thing {k % 4} is red. It stands beside the house, in front of a tree with {k % 17} apples, "
                f"and carries the number {k}. Behind it one sees the sea and {k % 5} boats.",
                "model": "qwen2-vl-7b",
                **recorded(images, k // 4),
                "finish_reason": "stop",
            }
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return path


def recorded(images: Path, number: int) -> dict[str, Any]:
    """What a row records of its image."""
    path = images / f"{number:07d}.jpg"
    time_ns = path.stat().st_mtime_ns if path.exists() else 1732180000000000000
    return {"image_mtime_ns": time_ns, "image_sha256": f"{number:064x}"}


def plain(source: Path, target: Path) -> dict[str, float]:
    """The fastest possible loop: read, parse and write each line."""
    began = time.perf_counter()
    with source.open("rb") as read, target.open("wb", buffering=1 << 20) as write:
        for line in read:
            write.write(orjson.dumps(orjson.loads(line)) + b"\n")
    return {"seconds": time.perf_counter() - began, "peak_mib": peak()}


def decode(source: Path, _: Path) -> dict[str, float]:
    """Decode each image once, with as many threads as there are cores."""
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image

    began = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(lambda path: Image.open(path).convert("RGB").size, (source.parent / "photos").iterdir()))
    return {"seconds": time.perf_counter() - began, "peak_mib": peak()}


def measure_alone(source: Path, images: int | None) -> dict[str, float]:
    command = [sys.executable, __file__, *(["--images", str(images)] if images else []), "--alone", source]
    out = subprocess.run([*command, source.with_suffix(".out")], capture_output=True, check=True)
    measured: dict[str, float] = json.loads(out.stdout)
    return measured


def measure_convert(source: Path, processes: int, images: int | None) -> dict[str, float]:
    """Run ``stage=convert`` from the command line: the seconds in its summary, and the peak memory of its processes."""
    folder = source.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)  # with the looks of the images
    command = [sys.executable, str(ROOT / "run.py"), "stage=convert", "dataset=d", "tracking=none"]
    command += ["model=qwen2-vl-7b", f"stage.source={source}", f"output_dir={folder}", f"stage.folder={folder}"]
    command += [f"stage.processes={processes}", *([f"image_folder={source.parent}"] if images else CHECKS_OFF)]
    own = together = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
        while run.poll() is None:
            with contextlib.suppress(psutil.Error):
                family = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
                own = max(own, family[0].memory_info().rss / 2**20)
                together = max(together, sum(map(proportional, family)) / 2**20)
            time.sleep(0.02)
    summary = json.loads((folder / "latest" / "summary.json").read_text(encoding="utf-8"))
    assert run.returncode == 0
    assert summary["counts"]["rejected"] == 0
    return {"seconds": summary["seconds"], "peak_mib": own, "together_mib": together}


def proportional(process: psutil.Process) -> int:
    """The memory of a process in bytes, of which it bears its part of what it shares."""
    facts = process.memory_full_info()
    return int(getattr(facts, "pss", facts.uss))


def peak() -> float:
    """The peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(results: list[dict[str, Any]], sizes: list[int], processes: list[int], alone: str) -> None:
    columns = ["rows", f"{alone} rows/s", "processes", "convert rows/s", f"convert / {alone}", "peak MiB", "all MiB"]
    table = Table(*columns)
    for rows, count in itertools.product(sizes, processes):

        def median(what: str, figure: str, rows: int = rows) -> float:
            return statistics.median(one[figure] for one in results if one["rows"] == rows and one["what"] == what)

        what = f"{count} processes"
        alone_rate, rate = rows / median("alone", "seconds"), rows / median(what, "seconds")
        memory = [f"{median(what, figure):.0f}" for figure in ("peak_mib", "together_mib")]
        rates = f"{alone_rate:,.0f}", str(count), f"{rate:,.0f}", f"{rate / alone_rate:.2f}"
        table.add_row(f"{rows:,}", *rates, *memory)
    Console().print(table)


if __name__ == "__main__":
    main()
