"""Random damage to everything that comes from outside: it gives a result or one of our errors, never anything else.

Each target runs for half a minute; ``FUZZ_SECONDS`` sets another time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import socketserver
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import hypothesis
import openai
import pytest
from hypothesis import strategies as st

from tests.fuzz.inputs import JSON, damaged, lines, with_odd_values
from vd100k.chat import conversation
from vd100k.config.run import Model
from vd100k.config.stages import Generate
from vd100k.conversion import filters
from vd100k.conversion.filters import RejectedRow
from vd100k.errors import DataError, ServerError
from vd100k.images.find import find_images
from vd100k.io.jsonl import Fault
from vd100k.ledger import provenance
from vd100k.llm import readers
from vd100k.llm.client import Client, RequestError, Usage
from vd100k.models import safetensors_header
from vd100k.registry import servers
from vd100k.runs.report import page
from vd100k.sources.readers import Source

SECONDS = float(os.environ.get("FUZZ_SECONDS", "30"))
EXAMPLES = 100  # between two looks at the clock

pytestmark = [pytest.mark.story, pytest.mark.timeout(SECONDS + 120)]


def fuzz(target: Callable[[Any], None], inputs: st.SearchStrategy[Any]) -> None:
    """Call ``target`` with inputs until the time is up; a failure is shrunk and reported with its seed."""
    until, seeds = time.monotonic() + SECONDS, Random()
    while time.monotonic() < until:
        check = hypothesis.given(inputs)(target)
        quiet = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large]
        limits = hypothesis.settings(
            max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=quiet, report_multiple_bugs=False
        )
        check = limits(check)
        hypothesis.seed(seeds.getrandbits(64))(check)()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "a.png").touch()
        yield Path(name)


IMAGES = lines([{"image": "a.png"}, {"image": "./b/../a.png"}, {"image": "/etc/passwd"}, {"image": "caf\u00e9.png"}])
TABLE = b'image,question,answer\r\na.png,What?,"a, b"\r\n"x\ny.png",,\r\n'


@pytest.mark.parametrize(("name", "example"), [("list.jsonl", IMAGES), ("list.csv", TABLE)], ids=["jsonl", "csv"])
def test_lists_of_images(folder: Path, name: str, example: bytes) -> None:
    def check(content: bytes) -> None:
        (folder / name).write_bytes(content)
        rejected: list[str] = []
        with contextlib.suppress(DataError):
            for image in find_images(str(folder / name), reject=lambda id, reason, detail: rejected.append(reason)):
                assert Path(image.path).is_relative_to(folder)
                assert ".." not in Path(image.id).parts
                image.id.encode()  # can be written to a file

    fuzz(check, damaged(example))


ROBOFLOW = {"image": "a.png", "prefix": "What?", "suffix": '{"a": 1}'}


def test_roboflow_annotations(folder: Path) -> None:
    (folder / "train").mkdir()
    columns = {key: key for key in ("id", "image", "question", "answer")}
    source = Source(folder, columns, "What?", folder / "unpacked", "stage")

    def check(content: bytes) -> None:
        (folder / "train/annotations.jsonl").write_bytes(content)
        for _, row in source.lines():
            if not isinstance(row, Fault):
                with contextlib.suppress(RejectedRow):
                    filters.complete_fields(row)
                    assert all(isinstance(row[key], str) for key in ("id", "image", "question", "answer"))

    fuzz(check, damaged(lines([ROBOFLOW])) | st.lists(with_odd_values(ROBOFLOW), max_size=3).map(lines))


class RawServer(socketserver.ThreadingTCPServer):
    """Answers every request with the bytes in ``reply``, and closes the connection."""

    daemon_threads = allow_reuse_address = True
    reply = b""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            while (line := self.rfile.readline()).strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            self.rfile.read(length)
            assert isinstance(self.server, RawServer)
            with contextlib.suppress(OSError):
                self.wfile.write(self.server.reply)
                self.request.shutdown(socket.SHUT_WR)


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    with RawServer(("127.0.0.1", 0), RawServer.Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


COMPLETION = {
    "choices": [{"message": {"content": '{"question": "Q?", "answer": "A"}'}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3},
}
ERROR = {"error": {"message": "no", "code": "insufficient_quota"}}


def http(status: int, body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Retry-After: 1\r\nConnection: close\r\n\r\n".encode() + body


def test_replies_of_servers(raw_server: RawServer, parsed: Callable[..., Any]) -> None:
    run = parsed("stage=generate", "images=p", "hardware=api", "model=gpt-4o", "model.api_key_env=null")
    model, settings, url = run.model, run.stage, f"http://127.0.0.1:{raw_server.server_address[1]}/v1"
    loop = asyncio.new_event_loop()

    def check(reply: bytes) -> None:
        raw_server.reply = reply
        answer = loop.run_until_complete(ask(model, settings, url))
        if answer is not None:
            for reader in readers.READERS:
                with contextlib.suppress(readers.ParseError):
                    fields = readers.read(reader, answer, schema={"type": "object"} if reader == "json" else None)
                    json.dumps(fields, ensure_ascii=False).encode()

    bodies = with_odd_values(COMPLETION).map(json.dumps).map(str.encode) | damaged(json.dumps(COMPLETION).encode())
    statuses = st.sampled_from([200, 200, 200, 400, 404, 429, 500, 301])
    replies = st.builds(http, statuses, bodies | damaged(json.dumps(ERROR).encode()))
    fuzz(check, replies | damaged(http(200, json.dumps(COMPLETION).encode())))
    loop.close()


async def ask(model: Model, settings: Generate, url: str) -> str | None:
    async with Client(model, "m", settings, Usage()) as client:
        with contextlib.suppress(RequestError, ServerError):
            await client.models(url)
            await client.loaded_from(url)
            return (await client.ask(url, b"{}")).text
    return None


CHUNK = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
EVENTS = b"".join(
    f"data: {json.dumps(CHUNK | {'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n".encode()
    for text in ("a <box>(1,2),(3,4)</box>", "<script>")
)


def test_streamed_answers_of_the_chat_page(raw_server: RawServer) -> None:
    url = f"http://127.0.0.1:{raw_server.server_address[1]}/v1"
    client = openai.OpenAI(base_url=url, api_key="none", timeout=5, max_retries=0)

    def check(reply: bytes) -> None:
        raw_server.reply = reply
        with contextlib.suppress(openai.OpenAIError):
            for text in conversation.stream(client, {"model": "m", "messages": []}):
                shown = conversation.as_shown(text)["content"][0]["text"]
                assert "<" not in shown

    chunks = with_odd_values(CHUNK | {"choices": []}) | JSON.map(lambda value: CHUNK | {"choices": [value]})
    events = st.lists(chunks, max_size=3).map(lambda rows: b"".join(b"data: " + lines([row]) + b"\n" for row in rows))
    fuzz(check, (damaged(EVENTS + b"data: [DONE]\n\n") | events).map(lambda e: http(200, e, "text/event-stream")))


def tensors(header: bytes, data: int = 8) -> bytes:
    return struct.pack("<Q", len(header)) + header + bytes(data)


def test_safetensors_headers(folder: Path) -> None:
    described = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"format": "pt"}}
    path = folder / "model.safetensors"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.suppress(ValueError):
            assert all(tensor.end >= tensor.begin >= 8 for tensor in safetensors_header.read(path).values())

    headers = with_odd_values(described).map(json.dumps).map(str.encode)
    fuzz(check, headers.map(tensors) | damaged(tensors(json.dumps(described).encode())))


SERVER = {
    **{"port": 1, "model": "m", "url": "http://127.0.0.1:1/v1", "host": "h", "pid": 1, "command_hash": ""},
    **{"folder": "f", "programs": [{"name": "replica 0", "state": "ready", "pid": 1, "command_hash": ""}]},
}
SUMMARY = {
    **{"stage": "generate", "status": "ok", "counts": {"images": 2, "rows": 1, "failed": 1}, "seconds": 1.0},
    **{"inputs": [], "outputs": [{"path": "rows.jsonl", "rows": 1, "sha256": "0"}], "metrics": {"loss": [[1, 2.0]]}},
    **{"settings": {"model": {"name": "m"}}, "versions": {}, "command": ["run.py"], "steps": [], "error": None},
}
SETTINGS = {"model": "m", "prompt": "p", "sampling": {"max_tokens": 1}, "weights": "base"}


def test_files_of_settings_servers_and_summaries(folder: Path, parsed: Callable[..., Any]) -> None:
    run = parsed("stage=serve", "stage.action=status", f"output_dir={folder}", "tracking=none")
    (folder / "servers").mkdir()

    def check(content: bytes) -> None:
        (folder / "settings.json").write_bytes(content)
        with contextlib.suppress(DataError):
            provenance.difference(provenance.read(folder / "settings.json"), SETTINGS)
        (folder / "servers/1.json").write_bytes(content)
        for server in servers.known(run):
            assert server.status
        (folder / "summary.json").write_bytes(content)
        with contextlib.suppress(DataError):
            page.write(folder)

    objects = with_odd_values(SETTINGS) | with_odd_values(SERVER) | with_odd_values(SUMMARY) | JSON
    contents = objects.map(json.dumps).map(str.encode)
    fuzz(check, contents | damaged(*(json.dumps(example).encode() for example in (SETTINGS, SERVER, SUMMARY))))
