"""What a server makes of chat requests: a renderer, which encodes them as its server does, without the weights."""

from __future__ import annotations

import http.client
import json
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pybase64
from numpy.typing import NDArray

from vd100k.config.run import Run
from vd100k.engines import commands
from vd100k.engines.commands import Command
from vd100k.engines.process import Child
from vd100k.errors import ServerError
from vd100k.io.redaction import redact
from vd100k.llm.prompts import Message
from vd100k.parity import pixels

HOST = "127.0.0.1"
POLL_S = 0.1
TIMEOUT_S = 120.0  # of one request; a photo takes a fraction of a second
RAW = 3  # msgpack's extension type in which vLLM puts the bytes of a tensor


class _NotOffered(Exception):
    """A server has no such address, and says so by the status 501."""


class Refused(Exception):
    """The renderer refuses a request, as the server would; the message is its own."""


def command(run: Run, port: int) -> Command:
    """The renderer on ``port``, with the options and the environment of the run's server."""
    engine = run.hardware.engine
    assert engine is not None
    assert engine.renderer is not None
    here = {"host": HOST, "port": port, "replicas": 1, "balancer": "none"}
    server = commands.replicas(run.model_copy(update={"hardware": run.hardware.model_copy(update=here)}))[0]
    options = server.argv[len([engine.python, "-m", engine.module, *engine.words]) :]
    return Command([server.argv[0], "-m", engine.renderer, *options], server.env, server.inherits)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as one:
        one.bind((HOST, 0))
        port: int = one.getsockname()[1]
    return port


class Renderer:
    """A running renderer of the model ``name`` on ``port``; ``child`` is its process."""

    def __init__(self, name: str, port: int, child: Child) -> None:
        self._name, self._port, self._child = name, port, child

    def wait(self, seconds: float) -> None:
        """Wait until it answers.

        Raises:
            ServerError: it exited, or did not answer within ``seconds``.
        """
        end = time.monotonic() + seconds
        while not self._is_ready():
            if self._child.exit_code() is not None:
                raise ServerError(self._child.last_words("the renderer"))
            if time.monotonic() > end:
                raise ServerError(
                    f"the renderer did not answer within hardware.start_timeout_s={seconds:g} seconds. "
                    f"The end of its log ({self._child.log}):\n{self._child.tail()}"
                )
            self._child.wait(POLL_S)

    def render(self, messages: list[Message]) -> tuple[list[int], list[pixels.Grid], list[NDArray[np.uint8]]]:
        """The token ids of a prompt, and the grid and the patches of each image; no patches if they are not bytes.

        Raises:
            Refused: the server would answer with an error.
        """
        reply = self._post("/v1/chat/completions/render", {"messages": messages})
        found = ((reply.get("features") or {}).get("kwargs_data") or {}).get("image") or []
        tensors = [_tensors(item) for item in found if item]
        grids = [_grid(one["image_grid_thw"]) for one in tensors if "image_grid_thw" in one]
        values = [one["pixel_values"] for one in tensors if "pixel_values" in one]
        return reply["token_ids"], grids, [one for one in values if one.dtype == np.uint8]

    def tokens(self, messages: list[Message]) -> list[int]:
        """The token ids of a prompt."""
        found: list[int] = self._post("/tokenize", {"messages": messages, "add_generation_prompt": True})["tokens"]
        return found

    def whole(self, messages: list[Message]) -> list[int] | None:
        """The token ids of messages that end with an answer; None if the server encodes nothing but prompts."""
        try:
            reply = self._post("/tokenize", {"messages": messages, "add_generation_prompt": False})
        except _NotOffered:
            return None
        found: list[int] = reply["tokens"]
        return found

    def text(self, ids: list[int]) -> str:
        """The text of token ids, special tokens included."""
        found: str = self._post("/detokenize", {"tokens": ids})["prompt"]
        return found

    def _is_ready(self) -> bool:
        try:
            return self._request("GET", "/health", None)[0] == http.client.OK
        except (OSError, http.client.HTTPException):
            return False

    def _post(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps({"model": self._name, **content}).encode()
        try:
            status, reply = self._request("POST", path, body)
            read: dict[str, Any] = json.loads(reply)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServerError(f"The renderer: {error}. {self._child.last_words('It')}") from error
        if status == http.client.NOT_IMPLEMENTED:
            raise _NotOffered(path)
        if status != http.client.OK:
            fault = read.get("error", read)
            raise Refused(redact(str(fault.get("message", fault) if isinstance(fault, dict) else fault)))
        return read

    def _request(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def start(run: Run, log: Path) -> tuple[Child, Renderer]:
    """Start the renderer of a run; the caller leaves the child's ``with`` block to end it."""
    port = free_port()
    child = Child(command(run, port), log)
    return child, Renderer(run.served_name, port, child)


def _tensors(item: str) -> dict[str, NDArray[Any]]:
    """The tensors of an image: base64 of msgpack, in which a tensor is its type, its shape and its bytes.

    Source: ``MsgpackEncoder`` in vllm/v1/serial_utils.py.
    """
    import msgspec  # comes with vLLM

    fields = msgspec.msgpack.decode(pybase64.b64decode(item))
    found = {}
    for name, value in fields.items():
        kind, shape, raw = value["data"]
        if isinstance(raw, msgspec.msgpack.Ext) and raw.code == RAW and hasattr(np, kind):
            found[name] = np.frombuffer(bytes(raw.data), dtype=np.dtype(kind)).reshape(shape)
    return found


def _grid(tensor: NDArray[Any]) -> pixels.Grid:
    frames, rows, columns = (int(number) for number in tensor)
    return frames, rows, columns
