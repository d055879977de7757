"""Images of a data set on the Hugging Face hub, from a local server that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.chat_server import chat_server
from tests.conftest import draw_pictures
from tests.unit.generation.test_run import ask
from tests.unit.stores.test_objects import check_conversion, contents, described

Call = Callable[..., subprocess.CompletedProcess[str]]
PAGE = 2  # entries in one answer


class Hub(ThreadingHTTPServer):
    """Serves the files of the data set org/set; ``gone`` are files that vanish after they were listed."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.gone = files, set[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.startswith("/api/datasets/org/set/tree/main"):
            self._list(unquote(url.path.removeprefix("/api/datasets/org/set/tree/main")).strip("/"), url.query)
        elif url.path.startswith("/datasets/org/set/resolve/main/"):
            name = unquote(url.path.removeprefix("/datasets/org/set/resolve/main/"))
            content = None if name in self.server.gone else self.server.files.get(name)
            if content is None:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            else:
                self._send(200, content, {"ETag": f'"{etag(content)}"'})
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _list(self, folder: str, query: str) -> None:
        start = int(query.rpartition("cursor=")[2]) if "cursor=" in query else 0
        names = [name for name in sorted(self.server.files) if name.startswith(f"{folder}/")]
        entries = [
            {"type": "file", "path": name, "size": len(content), "oid": etag(content)}
            for name in names[start : start + PAGE]
            for content in [self.server.files[name]]
        ]
        more = start + PAGE < len(names)
        link = (
            {"Link": f'<{self.server.url}{urlsplit(self.path).path}?cursor={start + PAGE}>; rel="next"'} if more else {}
        )
        self._send(200, json.dumps(entries).encode(), link)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The pictures in the folder ``a b`` of a data set; the commands of a test take the server for the hub."""
    files = {f"a b/{path.name}": path.read_bytes() for path in pictures.iterdir()}
    with Hub({**files, "README.md": b"text", "a b/x.txt": b"text"}) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield server
        server.shutdown()


def test_the_rows_are_those_of_the_folder(vd100k: Call, tmp_path: Path, hub: Hub) -> None:
    url = "hf://datasets/org/set/a b"
    with chat_server(described) as server:
        assert ask(vd100k, server, "dataset=here").returncode == 0
        for _ in range(2):
            done = ask(vd100k, server, f"images={url}", "dataset=pictures")
            assert done.returncode == 0, done.stderr
        assert len(server.requests) == 2 * 6
        hub.files["a b/00.png"] = (draw_pictures(tmp_path / "new", 1, seed=9) / "00.png").read_bytes()
        hub.gone.add("a b/02.png")
        ask(vd100k, server, f"images={url}", "dataset=pictures")
        assert len(server.requests) == 2 * 6 + 1
    assert [json.loads(row)["id"] for row in contents(tmp_path, "pictures")] == [f"{k:02d}.png" for k in range(6)]
    hub.gone.clear()
    check_conversion(vd100k, tmp_path, url, 6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("hf://datasets/org/other/a", "the hub has no such data set, or HF_TOKEN"),
        ("hf://datasets/org/set/none", "no images in it"),
        ("hf://org/model", "is written hf://datasets/ORG/NAME/FOLDER"),
    ],
)
def test_what_cannot_be_listed_is_one_message(vd100k: Call, hub: Hub, images: str, message: str) -> None:
    done = ask(vd100k, "http://127.0.0.1:9/v1", f"images={images}", "dataset=d")
    assert done.returncode == 1
    assert message in done.stderr


def test_a_hub_out_of_reach_is_one_message(vd100k: Call, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = ask(vd100k, "http://127.0.0.1:9/v1", "images=hf://datasets/org/set/a", "dataset=d", timeout=120)
    assert done.returncode == 1
    assert "the hub cannot be reached" in done.stderr
