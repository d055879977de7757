"""Generate on two real vLLM replicas while everything goes wrong, and check the books afterwards.

    python -m benchmarks.chaos                       # 15 minutes
    python -m benchmarks.chaos --minutes 3 --seed 7

Every few seconds, a random event (the sequence depends on ``--seed``) happens to the run:

- replica: ``kill -9`` of a replica, which its supervisor restarts
- client: ``kill -9``, SIGTERM, SIGHUP or SIGINT of ``stage=generate``, which is then started again
- disk: a limit on the file size acts like a full disk for some seconds
- connections: all connections between client and replicas are cut
- clock: the client's clock jumps by up to a day (needs libfaketime)
- images: images are edited, some of them answered already, and new ones are added

The client reaches the replicas through a proxy of this program, which counts the answers that it passes on. At the
end the faults stop, and the client runs until nothing is left. Then every image has one answer, about the image as
it is now, or one failure. The proxy has passed on at least one answer for each row, including the rows about images
that were edited later, and the surplus is at most what was in flight at each event.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import psutil
from PIL import Image

from benchmarks.serving import serving

HERE = Path(__file__).parent
ROOT = HERE.parent
IN_FLIGHT = 8
IMAGES = 1000
PAUSE_S = (2.0, 12.0)  # between two events
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)


class Proxy:
    """Passes connections on to one replica, counts the complete answers, and can cut all connections."""

    def __init__(self, target: int) -> None:
        self.target, self.answers = target, 0
        self.writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self) -> None:
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            self.writers.add(back)
            await asyncio.gather(self.pump(reader, back), self.pump(there, writer, counts=True))
            self.writers.discard(back)
        self.writers.discard(writer)
        writer.close()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counts: bool = False) -> None:
        with contextlib.suppress(OSError):
            while content := await reader.read(1 << 16):
                if counts:
                    self.answers += content.count(b'"object":"chat.completion"')
                writer.write(content)
                await writer.drain()
        writer.close()

    def cut(self) -> None:
        for writer in list(self.writers):
            writer.transport.abort()


class Chaos:
    """The images, the client and the events."""

    def __init__(self, folder: Path, seed: int, proxies: list[Proxy], loop: asyncio.AbstractEventLoop) -> None:
        self.folder, self.random, self.proxies, self.loop = folder, Random(seed), proxies, loop
        self.events: Counter[str] = Counter()
        self.client: subprocess.Popen[bytes] | None = None
        self.clock = folder / "clock"
        self.count = 0
        (folder / "images").mkdir()
        self.add(IMAGES)
        self.set_clock(0)

    def add(self, count: int) -> None:
        for k in range(self.count, self.count + count):
            self.draw(f"{k:06d}.png")
        self.count += count

    def draw(self, name: str) -> None:
        scratch = self.folder / "scratch.png"
        colour = (self.random.randrange(256), self.random.randrange(256), self.random.randrange(256))
        Image.new("RGB", (56, 56), colour).save(scratch)
        scratch.rename(self.folder / "images" / name)

    def start(self) -> None:
        urls = ",".join(f"http://127.0.0.1:{proxy.port}/v1" for proxy in self.proxies)
        command = [
            *(sys.executable, str(ROOT / "run.py"), "stage=generate", "images=images", "hardware=api", "tracking=none"),
            *(f"hardware.urls=[{urls}]", "model=tiny-teacher", "task=details", f"stage.max_in_flight={IN_FLIGHT}"),
            *(
                "stage.endpoint_wait_s=600",
                "stage.max_failure_rate=1",
                "stage.timeout_s=60",
                "stage.check=false",
                "task.sampling.max_tokens=2",
            ),
        ]
        env = dict(os.environ)
        if FAKETIME:
            env |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self.clock), "FAKETIME_NO_CACHE": "1"}
            env |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
        with (self.folder / "client.log").open("ab") as log:
            self.client = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env=env)

    def set_clock(self, seconds: int) -> None:
        self.clock.write_text(f"{seconds:+d}\n", encoding="utf-8")

    def happen(self) -> None:
        happens = {
            "replica": self.kill_replica,
            "client": self.signal_client,
            "disk": self.fill_disk,
            "connections": self.cut_connections,
            "clock": self.move_clock,
            "images": self.edit_images,
        }
        event = self.random.choice(list(happens))
        if happens[event]():
            self.events[event] += 1

    def kill_replica(self) -> bool:
        state = json.loads(next((self.folder / "outputs/servers").glob("*.json")).read_text(encoding="utf-8"))
        running = [program["pid"] for program in state["programs"] if program["state"] == "ready"]
        if len(running) < 2:  # one at a time: a start takes a minute here
            return False
        os.kill(self.random.choice(running), signal.SIGKILL)
        return True

    def client_pid(self) -> int | None:
        return self.client.pid if self.client and self.client.poll() is None else None

    def signal_client(self) -> bool:
        if pid := self.client_pid():
            os.kill(pid, self.random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]))
        return pid is not None

    def fill_disk(self) -> bool:
        if pid := self.client_pid():
            rows = self.folder / "outputs/data/images/details/tiny-teacher.jsonl"
            size = rows.stat().st_size if rows.exists() else 0
            with contextlib.suppress(OSError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 20_000, resource.RLIM_INFINITY))
                time.sleep(3)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, UNLIMITED)
        return pid is not None

    def cut_connections(self) -> bool:
        for proxy in self.proxies:
            self.loop.call_soon_threadsafe(proxy.cut)
        return True

    def move_clock(self) -> bool:
        self.set_clock(self.random.randint(-86_400, 86_400))
        return FAKETIME is not None

    def edit_images(self) -> bool:
        for _ in range(self.random.randrange(1, 6)):
            self.draw(f"{self.random.randrange(self.count):06d}.png")
        self.add(self.random.randrange(0, 60))
        return True


def judge(chaos: Chaos) -> dict[str, Any]:
    data = chaos.folder / "outputs/data/images/details"

    def read(name: str) -> list[dict[str, Any]]:
        path = data / f"tiny-teacher.{name}"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    rows, failures, outdated = read("jsonl"), read("failures.jsonl"), read("outdated.jsonl")
    answered, failed = Counter(row["id"] for row in rows), Counter(row["id"] for row in failures)
    images = {path.name: path for path in (chaos.folder / "images").iterdir()}
    served = sum(proxy.answers for proxy in chaos.proxies)
    interruptions = sum(chaos.events[event] for event in ("replica", "client", "disk", "connections"))
    return {
        "images": len(images),
        "rows": len(rows),
        "failures": dict(Counter(row["reason"] for row in failures)),
        "outdated rows": len(outdated),
        "lost": len(images.keys() - answered.keys() - failed.keys()),
        "twice": sum((answered + failed).values()) - len(answered.keys() | failed.keys()),
        "about an earlier image": sum(
            row["image_sha256"] != hashlib.sha256(images[row["id"]].read_bytes()).hexdigest() for row in rows
        ),
        "answers passed on": served,
        "surplus": served - len(rows) - len(outdated),
        "allowed": IN_FLIGHT * interruptions,
        "events": dict(chaos.events),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=8720)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "chaos.json")
    args = parser.parse_args()
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        proxies = [Proxy(args.port + k) for k in range(2)]
        for proxy in proxies:
            asyncio.run_coroutine_threadsafe(proxy.start(), loop).result()
        with serving(folder, f"hardware.port={args.port}", "hardware.max_restarts=1000"):
            chaos = Chaos(folder, args.seed, proxies, loop)
            play(chaos, time.monotonic() + 60 * args.minutes)
            result = judge(chaos) | {"seed": args.seed, "minutes": args.minutes, "clock": bool(FAKETIME)}
        log = (folder / "client.log").read_text(encoding="utf-8", errors="replace")
        result["stack traces"] = log.count("Traceback")
    print(json.dumps(result, indent=2))
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    balanced = result["lost"] == result["twice"] == result["about an earlier image"] == result["stack traces"] == 0
    sys.exit(not (balanced and 0 <= result["surplus"] <= result["allowed"]))


def play(chaos: Chaos, until: float) -> None:
    """Let events happen until the time is up, then let the client finish in peace."""
    while time.monotonic() < until:
        if not chaos.client_pid():
            chaos.start()
        time.sleep(chaos.random.uniform(*PAUSE_S))
        chaos.happen()
    chaos.set_clock(0)
    if pid := chaos.client_pid():
        psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, UNLIMITED)
        assert chaos.client
        chaos.client.wait()
    print("finishing", dict(chaos.events), file=sys.stderr, flush=True)
    for _ in range(2):  # the second run finds images that were edited during the first
        chaos.start()
        assert chaos.client
        status = chaos.client.wait()
    assert status == 0, (chaos.folder / "client.log").read_text(encoding="utf-8")[-3000:]


if __name__ == "__main__":
    main()
