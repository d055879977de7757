"""A local OpenAI-compatible server with configurable latency, slots and faults, fast enough not to be the bottleneck.

    python -m benchmarks.server --port 8000 --latency 0.2 --slots 64 --http-500 0.05 --http-429 0.05 --seed 7

It answers ``POST /v1/chat/completions`` and ``GET /v1/models``. ``GET /requests`` returns the log of all chat requests:
for each, its time (seconds since the epoch), the hash of its body, and its outcome. The fault of each request is drawn
at random from ``--seed``. The server listens on 127.0.0.1 unless ``--host`` names another address.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import xxhash

FAULTS = ("http-500", "http-429", "malformed", "drop", "hang")
WORDS = {200: "OK", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass
class Behaviour:
    """How the server answers: ``latency`` in seconds, and ``faults`` as shares of the requests."""

    name: str = "m"
    latency: float = 0.0
    slots: int | None = None
    faults: dict[str, float] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.free = asyncio.Semaphore(self.slots) if self.slots else None
        self.requests: list[tuple[float, str, str]] = []
        self.models = json.dumps({"object": "list", "data": [{"id": self.name, "object": "model"}]}).encode()

    def fault(self) -> str:
        """The fault of the next request; empty for none."""
        drawn = self._random.random()
        for name, share in self.faults.items():
            if drawn < share:
                return name
            drawn -= share
        return ""


class Connection(asyncio.Protocol):
    """A keep-alive connection. It expects one request after another, each with a Content-Length."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.received: list[bytes] = []
        self.size, self.needed = 0, 0
        self.path = b""
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.task:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.received.append(data)
        self.size += len(data)
        if self.size < self.needed:
            return
        whole = b"".join(self.received)
        head, found, body = whole.partition(b"\r\n\r\n")
        if not found:
            return
        if not self.needed:
            lines = head.split(b"\r\n")
            self.path = lines[0].split(b" ")[1]
            length = next((int(line[15:]) for line in lines if line[:15].lower() == b"content-length:"), 0)
            self.needed = len(head) + 4 + length
            if b"expect: 100-continue" in head.lower():
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self.size < self.needed:
                self.received = [whole]
                return
        self.received, self.size, self.needed = [], 0, 0
        self.task = asyncio.get_running_loop().create_task(self.answer(self.path, body))

    async def answer(self, path: bytes, body: bytes) -> None:
        server = self.behaviour
        if path.endswith(b"/chat/completions"):
            await self.complete(body)
        elif path.endswith(b"/models"):
            self.send(200, server.models)
        elif path == b"/requests":
            self.send(200, json.dumps(server.requests).encode())
        else:
            self.send(404, b'{"error": {"message": "no such path"}}')

    async def complete(self, body: bytes) -> None:
        server, digest = self.behaviour, xxhash.xxh3_64_hexdigest(body)
        fault = server.fault()
        server.requests.append((time.time(), digest, fault or "answered"))
        if fault == "hang":
            return
        if server.free:
            async with server.free:
                await asyncio.sleep(server.latency)
        elif server.latency:
            await asyncio.sleep(server.latency)
        if fault == "drop":
            self.transport.abort()
        elif fault == "http-429":
            self.send(429, b'{"error": {"message": "slow down"}}')
        elif fault == "http-500":
            self.send(500, b'{"error": {"message": "out of luck"}}')
        elif fault == "malformed":
            self.send(200, b'{"choices": [{"message"')
        else:
            self.send(200, completion(server.name, f"An image that hashes to {digest}."))

    def send(self, status: int, body: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (status, WORDS[status].encode(), len(body), body)
        )


@contextlib.contextmanager
def running(*options: str) -> Iterator[str]:
    """Run a server with these options in its own process while the block runs; yields its URL."""
    with subprocess.Popen([sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def seen(url: str) -> list[tuple[float, str, str]]:
    """The log of a server: the time, body hash and outcome of each chat request."""
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/requests") as log:
        return [tuple(entry) for entry in json.load(log)]


def completion(model: str, text: str) -> bytes:
    """A chat completion in the format of OpenAI's API."""
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 300, "completion_tokens": 12, "total_tokens": 312},
        }
    ).encode()


async def serve(behaviour: Behaviour, port: int, host: str = "127.0.0.1") -> None:
    """Serve until SIGTERM or SIGINT. Print the URL as soon as the server listens."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await loop.create_server(lambda: Connection(behaviour), host, port, backlog=1024)
    print(f"http://{host}:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await ended.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="an address of this machine")
    parser.add_argument("--port", type=int, default=0, help="0 selects a free port")
    parser.add_argument("--name", default="m", help="the name of the model")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--slots", type=int, help="requests processed in parallel; others wait")
    parser.add_argument("--seed", type=int, default=0)
    for fault in FAULTS:
        parser.add_argument(f"--{fault}", type=float, default=0.0, metavar="SHARE")
    args = vars(parser.parse_args())
    faults = {fault: args[fault.replace("-", "_")] for fault in FAULTS}
    behaviour = Behaviour(args["name"], args["latency"], args["slots"], faults, args["seed"])
    asyncio.run(serve(behaviour, args["port"], args["host"]))


if __name__ == "__main__":
    main()
