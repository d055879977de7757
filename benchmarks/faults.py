"""Run ``stage=generate`` under faults and check that every image ends with one answer or one failure.

    python -m benchmarks.faults                       # 10,000 images, 20 kills; takes some minutes
    python -m benchmarks.faults --images 500 --kills 3 --scenarios storm killed

In all scenarios, the server replies to 5 % of the requests with status 500, to 5 % with 429 and to 2 % with malformed
JSON; it drops 1 % of the connections and never answers 1 % of the requests. The scenarios are:

- storm: no other faults
- killed: ``kill -9`` at random moments; the same command is run again each time
- outage: two servers, one of which is killed and restarted at half of the images
- disk: the disk is full at half of the images; space is freed, and the same command is run again
- interrupted: SIGINT at half of the images; the same command is run again

The benchmark prints a table and writes ``benchmarks/results/faults.json``. Some of its columns:

- duplicate rows (``twice``): rows for images that already have one
- repeated requests (``again``): requests for images whose answer had been sent before
- allowed (``bound``): the number of repeated requests that the kills or the outage can explain, from those in flight
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.server import seen

HERE = Path(__file__).parent
ROOT = HERE.parent
SHARES = {"http-500": 0.05, "http-429": 0.05, "malformed": 0.02, "drop": 0.01, "hang": 0.01}
IN_FLIGHT = 64
HEADINGS = {"twice": "duplicate rows", "again": "repeated requests", "bound": "allowed", "failed": "failures by reason"}
LATENCY_S = 0.1


@dataclass
class Stage:
    """A folder of images, the servers, and the ``stage=generate`` command that uses them."""

    folder: Path
    images: int
    limit_kb: int | None = None
    servers: list[subprocess.Popen[str]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    def start_server(self, port: int = 0) -> subprocess.Popen[str]:
        faults = [option for name, share in SHARES.items() for option in (f"--{name}", str(share))]
        command = [sys.executable, str(HERE / "server.py"), "--latency", str(LATENCY_S), "--port", str(port), *faults]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout
        self.urls.append(server.stdout.readline().strip())
        self.servers.append(server)
        return server

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command in the background."""
        command = [
            *(sys.executable, str(ROOT / "run.py"), "stage=generate", "images=images", "hardware=api", "tracking=none"),
            *(f"hardware.urls=[{','.join(dict.fromkeys(self.urls))}]", "model=gpt-4o", "model.served_name=m"),
            *("model.api_key_env=null", f"stage.max_in_flight={IN_FLIGHT}", "stage.timeout_s=2", "stage.check=false"),
            *("stage.endpoint_wait_s=60", "stage.min_free_disk_mb=0"),
        ]
        if self.limit_kb:  # a limit on the file size simulates a full disk
            command = ["bash", "-c", f'ulimit -f {self.limit_kb}; exec "$@"', "bash", *command]
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)

    def finish(self) -> int:
        return self.start().wait()

    def wait_for(self, rows: int, process: subprocess.Popen[bytes]) -> None:
        while self.rows() < rows and process.poll() is None:
            time.sleep(0.02)

    def rows(self) -> int:
        path = self.path()
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def path(self, name: str = "gpt-4o.jsonl") -> Path:
        return self.folder / "outputs/data/images/details" / name

    def close(self) -> None:
        for server in self.servers:
            server.kill()
            server.wait()


def storm(stage: Stage, kills: int) -> int:
    return stage.finish()


def killed(stage: Stage, kills: int) -> int:
    rng = random.Random(0)
    for moment in sorted(rng.uniform(0.02, 0.98) for _ in range(kills)):
        process = stage.start()
        stage.wait_for(round(moment * stage.images), process)
        process.kill()
        process.wait()
    return stage.finish()


def outage(stage: Stage, kills: int) -> int:
    lost = stage.start_server()
    port = int(stage.urls[-1].split(":")[2].split("/")[0])
    process = stage.start()
    stage.wait_for(stage.images // 2, process)
    lost.kill()
    lost.wait()
    time.sleep(3)
    stage.start_server(port)
    return process.wait()


def disk(stage: Stage, kills: int) -> int:
    stage.limit_kb = stage.images * 380 // 2048  # enough for about half of the rows
    assert stage.finish() == 1
    assert "could not be written" in (stage.folder / "log.txt").read_text(encoding="utf-8")
    stage.limit_kb = None
    return stage.finish()


def interrupted(stage: Stage, kills: int) -> int:
    process = stage.start()
    stage.wait_for(stage.images // 2, process)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    return stage.finish()


SCENARIOS: dict[str, Callable[[Stage, int], int]] = {
    "storm": storm,
    "killed": killed,
    "outage": outage,
    "disk": disk,
    "interrupted": interrupted,
}


def play(scenario: str, folder: Path, images: int, kills: int) -> dict[str, Any]:
    """Run one scenario and return its results."""
    draw(folder / "images", images)
    stage = Stage(folder, images)
    stage.start_server()
    try:
        began = time.monotonic()
        status = SCENARIOS[scenario](stage, kills)
        return judge(stage, scenario, kills) | {"exit": status, "seconds": round(time.monotonic() - began)}
    finally:
        stage.close()


def draw(folder: Path, count: int) -> None:
    """Write ``count`` small images, all different."""
    folder.mkdir(parents=True)
    for k in range(count):
        Image.new("RGB", (28, 28), (k % 256, k // 256 % 256, k // 65536)).save(folder / f"{k:06d}.png")


def judge(stage: Stage, scenario: str, kills: int) -> dict[str, Any]:
    answered = Counter(json.loads(line)["id"] for line in stage.path().read_text(encoding="utf-8").splitlines())
    failures = stage.path("gpt-4o.failures.jsonl").read_text(encoding="utf-8").splitlines()
    failed = Counter(json.loads(line)["id"] for line in failures)
    log = [entry for url in dict.fromkeys(stage.urls) for entry in seen(url)]
    replies = Counter(digest for _, digest, outcome in log if outcome == "answered")
    return {
        "scenario": scenario,
        "images": stage.images,
        "answered": len(answered),
        "failed": dict(Counter(json.loads(line)["reason"] for line in failures)),
        "lost": stage.images - len(answered.keys() | failed.keys()),
        "twice": sum(answered.values()) - len(answered) + len(answered.keys() & failed.keys()),
        "requests": len(log),
        "again": sum(count - 1 for count in replies.values()),
        "bound": IN_FLIGHT * {"killed": kills, "outage": 1, "disk": 1}.get(scenario, 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), choices=list(SCENARIOS))
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "faults.json")
    args = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    results = []
    for scenario in args.scenarios:
        with tempfile.TemporaryDirectory() as folder:
            results.append(play(scenario, Path(folder), args.images, args.kills))
    table = Table(*(HEADINGS.get(key, key) for key in results[0] if key != "failed"), HEADINGS["failed"])
    for result in results:
        table.add_row(*(str(value) for key, value in result.items() if key != "failed"), str(result["failed"]))
    Console(width=160).print(table)
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
