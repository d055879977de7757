"""Compare ``stage=generate`` with other clients on a folder of images: throughput, CPU time, memory, lost images.

    python -m benchmarks.generate                                   # loop and vd100k, 64 and 256 in flight, 3 repeats
    python -m benchmarks.generate --contestants loop vd100k sdk requests curator distilabel --repeats 1
    python -m benchmarks.generate --faults --kill --contestants vd100k sdk requests curator distilabel --in-flight 64

All clients use the same local server (``benchmarks/server.py``, 200 ms latency, no limit on parallel requests) and the
same JPEGs (448 x 448, 60 to 80 KB). They take turns within one run, so that other load on the machine slows all of
them. curator and distilabel need separate environments with bespokelabs-curator, or distilabel[openai] and requests
(``--python curator=PATH``). The benchmark prints tables and writes ``benchmarks/results/generate.json``.

- steady requests/s: the rate without the first and the last tenth of the requests
- first request s: seconds from the start of the process to the first request
- CPU s per 1,000: CPU seconds per 1,000 requests, for the whole process, and without the CPU time of the start
- peak MB: resident memory; for clients with several processes, that of the largest
- lost: images without an answer at the end
- repeated: requests for images that already had an answer (with ``--kill``)
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.server import running, seen

HERE = Path(__file__).parent
ROOT = HERE.parent
FAULTS = ["--http-500", "0.05", "--http-429", "0.05", "--malformed", "0.02"]
SCRIPTS = {
    "loop": "aiohttp_loop.py",
    "sdk": "sdk_loop.py",
    "requests": "requests_threads.py",
    "curator": "curator_loop.py",
    "distilabel": "distilabel_loop.py",
}
LONGEST_S = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contestants", nargs="+", default=["loop", "vd100k"], choices=["vd100k", *SCRIPTS])
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--faults", action="store_true", help="5 %% status 500, 5 %% status 429, 2 %% malformed replies"
    )
    parser.add_argument(
        "--kill", action="store_true", help="kill -9 at half of the images, then run the same command again"
    )
    parser.add_argument(
        "--python", nargs="+", default=[], metavar="NAME=PATH", help="the Python interpreter for a client"
    )
    parser.add_argument("--output", type=Path, default=HERE / "results" / "generate.json")
    args = parser.parse_args()
    pythons = dict(pair.split("=", 1) for pair in args.python)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images, one = draw(folder / "images", args.images), draw(folder / "one", 1)
        for in_flight in args.in_flight:
            for repeat in range(args.repeats):
                for name in args.contestants:
                    place = folder / f"{name}-{in_flight}-{repeat}"
                    command = [name, pythons.get(name, sys.executable), in_flight]
                    measured = contest(*command, images, place, args.faults, args.kill)
                    if not args.kill:  # measure the CPU time of the start with a single image
                        start = contest(*command, one, folder / f"{place.name}-start", False, False)
                        spent = (measured["cpu_s"] - start["cpu_s"]) / (args.images - 1) * 1000
                        measured |= {"start_cpu_s": start["cpu_s"], "cpu_s_per_1000_run": spent}
                    results.append({"name": name, "in_flight": in_flight, **measured})
                    print(json.dumps(results[-1]), file=sys.stderr)
    report(results, args.contestants, args.in_flight)
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def draw(folder: Path, count: int) -> Path:
    """Write ``count`` JPEGs of 448 x 448 pixels and 60 to 80 KB: soft colours with noise. Return the folder."""
    folder.mkdir()
    random = numpy.random.default_rng(0)
    for k in range(count):
        colours = Image.fromarray(random.integers(0, 255, (56, 56, 3), dtype=numpy.uint8)).resize((448, 448))
        noisy = numpy.asarray(colours).astype(int) + random.integers(-22, 22, (448, 448, 3))
        encoded = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(numpy.uint8)).save(encoded, "JPEG", quality=80)
        (folder / f"{k:05d}.jpg").write_bytes(encoded.getvalue())
    return folder


def contest(
    name: str, python: str, in_flight: int, images: Path, place: Path, faults: bool, kill: bool
) -> dict[str, Any]:
    """Run one client against a new server and return its measurements."""
    place.mkdir()
    total = len(list(images.iterdir()))
    with running("--latency", "0.2", *(FAULTS if faults else [])) as url:
        command = command_line(name, python, in_flight, images, place, url)
        if kill:
            killed_half_way(command, place, url, total)
        began = time.time()
        status, usage = run(command, place)
        log = seen(url)
    times = sorted(when for when, _, _ in log)
    tenth = len(times) // 10
    answered = Counter(digest for _, digest, outcome in log if outcome == "answered")
    return {
        "status": status,
        "first_s": times[0] - began if times and not kill else None,
        "steady": 0.8 * len(times) / (times[-tenth - 1] - times[tenth]) if tenth and not kill else None,
        "seconds": time.time() - began,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "cpu_s_per_1000": (usage.ru_utime + usage.ru_stime) / max(1, len(times)) * 1000,
        "peak_mb": usage.ru_maxrss / 1024 * 1.048576,
        "lost": total - rows(place),
        "again": sum(count - 1 for count in answered.values()),
    }


def command_line(name: str, python: str, in_flight: int, images: Path, place: Path, url: str) -> list[str]:
    if name != "vd100k":
        script = str(HERE / "contestants" / SCRIPTS[name])
        return [python, script, url, str(images), str(place / "rows.jsonl"), str(in_flight)]
    return [
        *(python, str(ROOT / "run.py"), "stage=generate", f"images={images}", "hardware=api", "tracking=none"),
        *(f"hardware.urls=[{url}]", "model=gpt-4o", "model.served_name=m", "model.api_key_env=null"),
        *(f"output_dir={place}", "task=vqa", "task.prompt='Describe the image.'", "task.sampling={max_tokens: 64}"),
        *(f"stage.max_in_flight={in_flight}", "stage.check=false"),
    ]


def run(command: list[str], place: Path) -> tuple[int, Any]:
    """Run a command, killed after five minutes. Return its exit status and resource usage, including children."""
    with (place / "log.txt").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment())
    until = time.time() + LONGEST_S
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage
        if time.time() > until:
            os.killpg(process.pid, signal.SIGKILL)
            until = float("inf")
        time.sleep(0.01)


def killed_half_way(command: list[str], place: Path, url: str, total: int) -> None:
    """Start the client and kill it when the server has received requests for half of the images."""
    with (place / "log.txt").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment())
    until = time.time() + LONGEST_S
    while len(seen(url)) < total // 2 and time.time() < until and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment() -> dict[str, str]:
    """The environment without PYTHONDONTWRITEBYTECODE, so that compiled modules are cached, as for a user."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def rows(place: Path) -> int:
    """The number of images with an answer."""
    found: set[str] = set()
    for path in place.rglob("*.jsonl"):
        if path.name in ("rows.jsonl", "gpt-4o.jsonl"):
            found |= {json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()}
    return len(found)


def report(results: list[dict[str, Any]], names: list[str], in_flights: list[int]) -> None:
    for in_flight in in_flights:
        table = Table(
            *("client", "steady requests/s", "relative to loop", "first request s", "CPU s per 1,000"),
            *("CPU s per 1,000 without start", "peak MB", "lost", "repeated", "exit"),
            title=f"{in_flight} requests in flight",
        )
        loop = median(results, "loop", in_flight, "steady")
        for name in names:
            steady = median(results, name, in_flight, "steady")
            ratio = steady / loop if steady and loop else None
            figures = [steady, ratio] + [
                median(results, name, in_flight, key)
                for key in ("first_s", "cpu_s_per_1000", "cpu_s_per_1000_run", "peak_mb", "lost", "again", "status")
            ]
            digits = [0, 2, 2, 2, 2, 0, 0, 0, 0]
            shown = ["" if f is None else f"{f:,.{d}f}" for f, d in zip(figures, digits, strict=True)]
            table.add_row(name, *shown)
        Console().print(table)


def median(results: list[dict[str, Any]], name: str, in_flight: int, key: str) -> float | None:
    found = [r[key] for r in results if r["name"] == name and r["in_flight"] == in_flight and r.get(key) is not None]
    return statistics.median(found) if found else None


if __name__ == "__main__":
    main()
