"""A local W&B server that accepts the start of a run and then rejects the API key."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUCKET = {
    **{"id": "1", "displayName": "run", "description": "", "config": "{}", "sweepName": None, "historyLineCount": 0},
    "project": {"id": "1", "name": "vd100k", "entity": {"id": "1", "name": "me"}},
}
VIEWER = {"id": "1", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    started = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = json.loads(body) if self.path == "/graphql" else {}
        if asked.get("operationName") == "Viewer":
            self._send(200, {"data": {"viewer": VIEWER}})
        elif asked.get("operationName") == "UpsertBucket" and not type(self).started:
            type(self).started = True
            bucket = {**BUCKET, "name": asked["variables"]["name"]}
            self._send(200, {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}})
        else:
            self._send(401, {"errors": [{"message": "this key is no longer valid"}]})

    def _send(self, status: int, content: dict[str, Any]) -> None:
        encoded = json.dumps(content).encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@contextlib.contextmanager
def wandb_server() -> Iterator[str]:
    """Run the server while the block runs; yields its URL."""
    handler = type("Refusing", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
