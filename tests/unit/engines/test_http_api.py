"""Requests to our own servers: the API key reaches only the server that was asked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vd100k.engines.serving.http_api import request_json, served_models


class Redirecting(ThreadingHTTPServer):
    """Answers with a list of models, or redirects to ``onward``; keeps the key of each request."""

    def __init__(self, onward: str = "", status: int = 302) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.onward, self.status = onward, status
        self.keys: list[str | None] = []


class _Handler(BaseHTTPRequestHandler):
    server: Redirecting

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.keys.append(self.headers["Authorization"])
        self.send_response(self.server.status if self.server.onward else 200)
        if self.server.onward:
            self.send_header("Location", self.server.onward)
        self.end_headers()
        self.wfile.write(b'{"data": [{"id": "elsewhere"}]}')

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def running(server: Redirecting) -> Iterator[tuple[Redirecting, str]]:
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_server_is_not_followed_and_the_key_stays(status: int) -> None:
    with running(Redirecting()) as (other, other_url):
        # The name differs from 127.0.0.1, so this is another host.
        onward = other_url.replace("127.0.0.1", "localhost")
        with running(Redirecting(f"{onward}/v1/models", status)) as (asked, url):
            assert served_models(f"{url}/v1", "sesame") is None
            assert request_json(f"{url}/v1/chat/completions", "sesame", 2, b"{}") is None
        assert asked.keys == ["Bearer sesame"] * 2
        assert other.keys == []


def test_a_server_is_asked_directly_even_if_a_proxy_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with running(Redirecting()) as (_, url):
        assert served_models(f"{url}/v1") == ["elsewhere"]


def test_a_url_that_nothing_can_answer_gives_no_models() -> None:
    with running(Redirecting()) as (plain, url):
        for unusable in (url.replace("http", "https"), url.replace("http", "gopher"), "http://127.0.0.1:9"):
            assert served_models(unusable) is None
        assert plain.keys == []
