"""Compare ``stage=convert`` with a plain loop that reads and writes the same rows: throughput and peak memory.

    python -m benchmarks.convert                    # 10,000 and 1,000,000 rows, image checks off
    python -m benchmarks.convert --rows 10000 100000

Each measurement runs in a new process. The two alternate, so that other load on the machine slows both. The benchmark
prints a table and writes ``benchmarks/results/convert.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
CHECKS_OFF = [f"stage.rules.image_{rule}=false" for rule in ("missing", "unreadable", "changed", "small")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "convert.json")
    parser.add_argument("--plain", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plain:
        print(json.dumps(plain(*args.plain)))
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in args.rows:
            source = write_rows(Path(folder) / f"{rows}.jsonl", rows)
            for _ in range(args.repeats):
                results.append({"rows": rows, "what": "plain", **measure_plain(source)})
                results.append({"rows": rows, "what": "convert", **measure_convert(source)})
    report(results, args.rows)
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def write_rows(path: Path, count: int) -> Path:
    """Write rows like those of ``stage=generate``: four questions per image, answers of about a hundred characters."""
    with path.open("wb") as file:
        for k in range(count):
            row = {
                "id": f"photos/{k // 4:07d}.jpg",
                "image": f"/data/photos/{k // 4:07d}.jpg",
                "question": f"What is the colour of thing {k % 4} in picture number {k // 4}?",
                "answer": f"Thing {k % 4} is red. It stands beside the house, in front of a tree with {k % 17} apples, "
                f"and carries the number {k}. Behind it one sees the sea and {k % 5} boats.",
                "model": "qwen2-vl-7b",
                "image_mtime_ns": 1732180000000000000,
                "image_sha256": f"{k // 4:064x}",
                "finish_reason": "stop",
            }
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return path


def plain(source: Path, target: Path) -> dict[str, float]:
    """The fastest possible loop: read, parse and write each line."""
    began = time.perf_counter()
    with source.open("rb") as read, target.open("wb", buffering=1 << 20) as write:
        for line in read:
            write.write(orjson.dumps(orjson.loads(line)) + b"\n")
    return {"seconds": time.perf_counter() - began, "peak_mib": peak()}


def measure_plain(source: Path) -> dict[str, float]:
    out = subprocess.run(
        [sys.executable, __file__, "--plain", source, source.with_suffix(".out")], capture_output=True, check=True
    )
    measured: dict[str, float] = json.loads(out.stdout)
    return measured


def measure_convert(source: Path) -> dict[str, float]:
    """Run ``stage=convert`` from the command line: the seconds in its summary and the peak memory of the process."""
    folder = source.with_suffix("")
    command = [
        sys.executable,
        str(ROOT / "run.py"),
        "stage=convert",
        "dataset=d",
        "tracking=none",
        "image_folder=/data",
    ]
    command += [
        "model=qwen2-vl-7b",
        f"stage.source={source}",
        f"output_dir={folder}",
        f"stage.folder={folder}",
        *CHECKS_OFF,
    ]
    code = (
        "import json, resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    summary = json.loads((folder / "latest" / "summary.json").read_text(encoding="utf-8"))
    assert summary["counts"]["rejected"] == 0
    return {"seconds": summary["seconds"], "peak_mib": float(out.stdout)}


def peak() -> float:
    """The peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(results: list[dict[str, float | str]], sizes: list[int]) -> None:
    table = Table("rows", "plain loop rows/s", "convert rows/s", "convert relative to plain loop", "convert peak MiB")
    for rows in sizes:

        def median(what: str, figure: str, rows: int = rows) -> float:
            return statistics.median(r[figure] for r in results if r["rows"] == rows and r["what"] == what)  # type: ignore[type-var]

        plain_rate, rate = rows / median("plain", "seconds"), rows / median("convert", "seconds")
        peak_mib = median("convert", "peak_mib")
        table.add_row(f"{rows:,}", f"{plain_rate:,.0f}", f"{rate:,.0f}", f"{rate / plain_rate:.2f}", f"{peak_mib:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
