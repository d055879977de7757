"""Measure the overhead of nginx in front of two real vLLM servers, and the errors when one of them is killed.

    python -m benchmarks.balancer             # takes some minutes
    python -m benchmarks.balancer --requests 400 --rounds 2

``stage=serve`` starts two replicas of the tiny teacher (vLLM's CPU build) behind nginx. First, the same requests are
sent alternately to nginx and directly to the replicas, by nginx's own rule: one at a time (latency) and eight in
parallel (throughput). Then ``--requests`` requests are sent through nginx while one replica is killed with -9 and
restarts; this is done once with whole answers and once with streamed answers. The client retries each request at most
once, so *failed* counts requests that failed twice.

The benchmark prints tables and writes ``benchmarks/results/balancer.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.serving import serving

HERE = Path(__file__).parent
IN_FLIGHT = 8
ALONE, TOGETHER = 40, 200  # requests per round
MAX_TOKENS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000, help="requests during each kill; 0 skips the kills")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of comparing nginx with the replicas")
    parser.add_argument("--port", type=int, default=8750)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "balancer.json")
    args = parser.parse_args()
    settings = ["hardware.balancer=nginx", f"hardware.port={args.port}"]
    with tempfile.TemporaryDirectory() as scratch, serving(Path(scratch), *settings) as output:
        front, replicas = url(args.port), [url(args.port + 1), url(args.port + 2)]
        costs = asyncio.run(compare(front, replicas, args.rounds))
        kills = [
            asyncio.run(survive(front, replicas, args.requests, output, streamed=streamed, victim=victim))
            for victim, streamed in enumerate((False, True) if args.requests else ())
        ]
    table = Table("", "replicas", "nginx", "nginx relative to replicas, median", "each round")
    for name, pairs in costs.items():
        ratios = [nginx / direct for direct, nginx in pairs]
        direct, nginx = (statistics.median(figures) for figures in zip(*pairs, strict=True))
        table.add_row(
            name,
            f"{direct:.4g}",
            f"{nginx:.4g}",
            f"{statistics.median(ratios):.3f}",
            " ".join(f"{ratio:.3f}" for ratio in ratios),
        )
    Console().print(table)
    table = Table("answers", "requests", "retried", "failed", "ready again after s", "later requests per replica")
    for kill in kills:
        table.add_row(*(str(kill[key]) for key in ("answers", "requests", "again", "failed", "back_s", "afterwards")))
    Console().print(table)
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps({"costs": costs, "kills": kills}, indent=2) + "\n", encoding="utf-8")


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def compare(front: str, replicas: list[str], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(replicas, nginx) for each round: the median latency in seconds of single requests, sent alternately to both, and
    the requests per second with eight in flight.
    """
    costs: dict[str, list[tuple[float, float]]] = {"latency, s": [], "requests/s": []}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await burst(session, [front, *replicas], 60, IN_FLIGHT)  # warm up all servers
        for number in range(rounds):
            # The order alternates between rounds.
            sides = sorted({"direct": replicas, "nginx": [front]}.items(), reverse=bool(number % 2))
            alone: dict[str, list[float]] = {name: [] for name, _ in sides}
            for k in range(ALONE):
                for name, urls in sides:
                    alone[name].append(await burst(session, urls[k % len(urls) :], 1, 1, first=k))
            together = {name: TOGETHER / await burst(session, urls, TOGETHER, IN_FLIGHT) for name, urls in sides}
            medians = {name: statistics.median(seconds) for name, seconds in alone.items()}
            costs["latency, s"].append((medians["direct"], medians["nginx"]))
            costs["requests/s"].append((together["direct"], together["nginx"]))
            print({cost: pairs[-1] for cost, pairs in costs.items()}, file=sys.stderr)
    return costs


async def burst(session: aiohttp.ClientSession, urls: list[str], count: int, in_flight: int, first: int = 0) -> float:
    """Seconds for ``count`` requests, each sent to the address with the fewest in flight, as nginx's least_conn does.

    Different values of ``first`` give different images.
    """
    at_work = dict.fromkeys(urls, 0)
    todo = iter(range(first, first + count))
    began = time.perf_counter()

    async def worker() -> None:
        for number in todo:
            fewest = min(at_work, key=lambda url: at_work[url])
            at_work[fewest] = at_work.pop(fewest) + 1  # move to the end, so that ties alternate
            await ask(session, fewest, number, streamed=False)
            at_work[fewest] -= 1

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return time.perf_counter() - began


async def survive(
    front: str, replicas: list[str], count: int, log: Path, *, streamed: bool, victim: int
) -> dict[str, Any]:
    """Kill a replica after a quarter of the requests, continue until it is back, then count requests per replica."""
    outcome = {"answers": "streamed" if streamed else "whole", "requests": 0, "again": 0, "failed": 0}
    lines_before = log.read_text(encoding="utf-8").count(f"replica {victim} ")
    killed_at = 0.0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def worker() -> None:
            while outcome["requests"] < count or not is_back():
                outcome["requests"] += 1
                if outcome["requests"] == count // 4:
                    kill()
                for attempt in range(2):
                    try:
                        await ask(session, front, int(outcome["requests"]), streamed=streamed)
                        break
                    except (aiohttp.ClientError, ValueError):
                        outcome["failed" if attempt else "again"] += 1

        def kill() -> None:
            nonlocal killed_at
            state = json.loads(next((log.parent / "outputs/servers").glob("*.json")).read_text(encoding="utf-8"))
            os.kill(state["programs"][victim]["pid"], signal.SIGKILL)
            killed_at = time.monotonic()

        def is_back() -> bool:
            lines = [line for line in log.read_text(encoding="utf-8").splitlines() if f"replica {victim} " in line]
            if len(lines) > lines_before and "answers after" in lines[-1]:
                outcome.setdefault("back_s", round(time.monotonic() - killed_at))
                return True
            return False

        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
        before = [finished(replica) for replica in replicas]
        await asyncio.sleep(11)  # nginx retries a failed replica after ten seconds
        await burst(session, [front], 200, IN_FLIGHT)
        outcome["afterwards"] = [finished(r) - n for r, n in zip(replicas, before, strict=True)]
    print(outcome, file=sys.stderr)
    return outcome


async def ask(session: aiohttp.ClientSession, base: str, number: int, *, streamed: bool) -> None:
    """Send one request with a new image. Raise ValueError if the answer is incomplete."""
    content = [{"type": "image_url", "image_url": {"url": image_url(number)}}, {"type": "text", "text": "What is it?"}]
    body = {
        **{"model": "tiny-teacher", "max_tokens": MAX_TOKENS, "temperature": 0, "stream": streamed},
        "messages": [{"role": "user", "content": content}],
    }
    async with session.post(f"{base}/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        text = await response.text()
    if streamed and "data: [DONE]" not in text:
        raise ValueError("the stream ended early")


def image_url(number: int) -> str:
    """An image of 112 x 112 pixels as a ``data:`` URL, with a colour for each number."""
    encoded = io.BytesIO()
    Image.new("RGB", (112, 112), (number % 256, number // 256 % 256, 99)).save(encoded, "PNG")
    return f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"


def finished(base: str) -> int:
    """The number of requests that a vLLM server has finished."""
    with urllib.request.urlopen(f"{base}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    return int(sum(float(n) for n in re.findall(r"^vllm:request_success_total\{.*\} (\S+)$", text, re.MULTILINE)))


if __name__ == "__main__":
    main()
