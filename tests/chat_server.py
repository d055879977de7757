"""A local OpenAI-compatible server whose replies are scripted by a test.

``script(number, body)`` returns the reply to the n-th chat request (from 0): the text of the answer, or
(status, headers, body). All request bodies are in ``requests``.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = str | tuple[int, dict[str, str], str]


class ChatServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script: Callable[[int, dict[str, Any]], Reply], name: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.name = script, name
        self.root: str | None = None  # where the model was loaded from, as vLLM tells
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.pause_s = 0.02  # pause after each character of a streamed answer
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: ChatServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        model = {"id": self.server.name, "object": "model", "root": self.server.root}
        self._send(200, {}, json.dumps({"object": "list", "data": [model]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            number = len(server.requests)
            server.requests.append(body)
            server.keys.append(self.headers.get("Authorization"))
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            reply = server.script(number, body)
        finally:
            with server.lock:
                server.in_flight -= 1
        if isinstance(reply, str) and body.get("stream"):
            self._stream(reply)
        else:
            self._send(*((200, {}, completion(reply)) if isinstance(reply, str) else reply))

    def _stream(self, text: str) -> None:
        """Send the text character by character as server-sent events."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for event in [*(chunk({"content": character}) for character in text), chunk({}, "stop"), "[DONE]"]:
                self.wfile.write(f"data: {event}\n\n".encode())
                self.wfile.flush()
                time.sleep(self.server.pause_s)
        self.close_connection = True

    def _send(self, status: int, headers: dict[str, str], body: str) -> None:
        content = body.encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for key, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the requests are in ``requests``."""


def chunk(delta: dict[str, str], finish_reason: str | None = None) -> str:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return json.dumps(
        {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": choices}
    )


def completion(text: str, finish_reason: str = "stop") -> str:
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }
    )


@contextlib.contextmanager
def chat_server(script: Callable[[int, dict[str, Any]], Reply], name: str = "m") -> Iterator[ChatServer]:
    with ChatServer(script, name) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
