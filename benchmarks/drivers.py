"""The throughput of 1, 2 and 4 drivers on four machines, beside Ray Data with as many actors.

    python -m benchmarks.drivers                 # about ten minutes; needs root, for network namespaces
    python -m benchmarks.drivers --images 2000 --repeats 1

The machines are nodes of a Ray cluster in network namespaces. The local server answers every request after a fixed
time, and few requests are in flight, so that the limit is the drivers' and not that of the cores: a driver with 4 in
flight and 0.125 s can send 32 requests a second at most. The contestants take turns, so that other load on the machine
slows all of them. The rate is that between the first and the last tenth of the requests; the whole time includes the
start of the program and of its actors. The benchmark prints a table and writes ``benchmarks/results/drivers.json``.

``--names 1000000`` measures instead what a slice costs: the time to find its images among so many names.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import faults, million, server
from tests.engine.nodes import Nodes
from vd100k.drivers.slices import SLICES, Slice
from vd100k.images.find import find_images

HERE = Path(__file__).parent
ROOT = HERE.parent
NODES = 4
LONGEST_S = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--in-flight", type=int, default=4)
    parser.add_argument("--latency", type=float, default=0.125)
    parser.add_argument("--drivers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--contestants", nargs="+", default=["vd100k", "ray data"], choices=["vd100k", "ray data"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--names", type=int, help="measure a walk over so many names instead")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "drivers.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        results = walk(Path(scratch), args.names) if args.names else compare(Path(scratch), args)
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def compare(folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    faults.draw(folder / "images", args.images)
    results = []
    with Nodes(NODES, 0) as nodes:
        for _ in range(args.repeats):
            for drivers in args.drivers:
                for contestant in args.contestants:
                    found = measure(nodes, folder, contestant, drivers, args)
                    print(found, flush=True)
                    results.append(found)
    show(results, args.in_flight / args.latency)
    return results


def measure(nodes: Nodes, folder: Path, contestant: str, drivers: int, args: argparse.Namespace) -> dict[str, Any]:
    with (
        server.running("--host", nodes.head, "--latency", str(args.latency)) as url,
        tempfile.TemporaryDirectory(dir=folder) as place,
    ):
        argv = ours if contestant == "vd100k" else theirs
        environment = nodes.environment | {"RAY_ADDRESS": nodes.address, "PYTHONPATH": str(ROOT)}
        began = time.time()
        with (Path(place) / "log.txt").open("wb") as log:
            done = subprocess.run(
                argv(nodes, folder, url, drivers, args),
                cwd=place,
                env=environment,
                stdout=log,
                stderr=log,
                timeout=LONGEST_S,
            )
        seconds = time.time() - began
        assert done.returncode == 0, (Path(place) / "log.txt").read_text(encoding="utf-8")
        times = sorted(when for when, _, _ in server.seen(url))
    tenth = len(times) // 10
    steady = times[tenth:-tenth]
    return {
        "contestant": contestant,
        "drivers": drivers,
        "requests": len(times),
        "rate": (len(steady) - 1) / (steady[-1] - steady[0]),
        "asking_s": times[-1] - times[0] + args.latency,
        "whole_s": seconds,
        "load": os.getloadavg()[0],
    }


def ours(nodes: Nodes, folder: Path, url: str, drivers: int, args: argparse.Namespace) -> list[str]:
    return [
        *(sys.executable, str(ROOT / "run.py"), "stage=generate", f"images={folder / 'images'}", "hardware=api"),
        *(f"hardware.urls=[{url}]", "model=gpt-4o", "model.served_name=m", "model.api_key_env=null", "tracking=none"),
        *("cluster=ray", f"cluster.address={nodes.address}", f"cluster.drivers={drivers}", "stage.check=false"),
        f"stage.max_in_flight={args.in_flight}",
    ]


def theirs(nodes: Nodes, folder: Path, url: str, drivers: int, args: argparse.Namespace) -> list[str]:
    script = str(HERE / "contestants" / "ray_data.py")
    return [sys.executable, script, url, str(folder / "images"), "answers", str(args.in_flight), str(drivers)]


def show(results: list[dict[str, Any]], most: float) -> None:
    table = Table("", "drivers", "requests/s", "of one driver's", "of the most possible", "asking s", "whole s")
    base: dict[str, float] = {}
    for contestant, drivers in dict.fromkeys((r["contestant"], r["drivers"]) for r in results):
        mine = [r for r in results if (r["contestant"], r["drivers"]) == (contestant, drivers)]
        rate = statistics.median(r["rate"] for r in mine)
        one = base.setdefault(contestant, rate / drivers)
        asking, whole = (statistics.median(r[key] for r in mine) for key in ("asking_s", "whole_s"))
        shares = f"{rate / one:.2f}", f"{rate / most / drivers:.2f}"
        table.add_row(contestant, str(drivers), f"{rate:.1f}", *shares, f"{asking:.1f}", f"{whole:.1f}")
    Console().print(table)


def walk(folder: Path, names: int) -> list[dict[str, Any]]:
    """The CPU time to find the images of one slice; hard links stand for different images."""
    million.draw(folder / "images", names)
    part, results = Slice(1, SLICES), []
    for _ in range(3):
        cpu, began = time.process_time(), time.monotonic()
        found = sum(image.id in part for image in find_images(str(folder / "images")))
        spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.monotonic() - began}
        results.append({"names": names, "found": found} | spent)
        print(results[-1], flush=True)
    return results


if __name__ == "__main__":
    main()
