"""A real nginx in front of a server that checks no key itself: what nginx lets through, and what it keeps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import httpx
import psutil
import pytest

from benchmarks.server import seen
from tests.conftest import free_ports
from tests.unit.engines.test_serving import until
from vd100k.config.run import Run
from vd100k.engines.serving.fleet import start
from vd100k.engines.serving.nginx import configured, nginx_files
from vd100k.errors import ServerError

# Characters that mean something to nginx, to a regular expression or to a shell.
KEY = r"""Ses/4711+ $host"'\d;{}#=.*"""
BODY_MB = 64

pytestmark = pytest.mark.skipif(
    not shutil.which("nginx") and "CI" not in os.environ, reason="nginx is not installed here"
)


@dataclass
class Front:
    """A running nginx, the folder of its files, and the URL of the only server behind it."""

    port: int
    folder: Path
    backend: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def announce(self, key: str | None, path: str = "/v1/chat/completions") -> tuple[str, float]:
        """Announce a large body but send none of it: the status line, and the seconds until it arrived."""
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as client:
            header = f"Authorization: {key}\r\n" if key else ""
            length = BODY_MB * 2**20
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{header}Content-Length: {length}\r\n\r\n".encode())
            with contextlib.suppress(TimeoutError):
                return client.recv(4096).decode().partition("\r\n")[0], time.monotonic() - began
            return "", time.monotonic() - began


@contextlib.contextmanager
def fronted(run: Run, folder: Path) -> Iterator[Front]:
    folder.mkdir()
    with start(run, folder, balanced=True) as fleet:
        yield Front(run.hardware.port or 0, folder, fleet.replicas[0].program.url)


def balanced(light_run: Callable[..., Run], *overrides: str) -> Run:
    return light_run("hardware.replicas=2", "hardware.replica_weights=[9999,1]", "hardware.balancer=nginx", *overrides)


@pytest.fixture
def keyed(light_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    monkeypatch.setenv("SERVER_KEY", KEY)
    run = balanced(light_run, "model.api_key_env=SERVER_KEY", "hardware.engine.key_env=LIGHT_KEY")
    with fronted(run, tmp_path / "run") as front:
        yield front


def test_a_large_body_without_the_right_key_is_refused_before_it_is_sent(keyed: Front) -> None:
    wrong = [None, KEY, "Bearer", "Bearer ", "Bearer x", f"Bearer {KEY}x", f"Bearer x{KEY}", f"Bearer {KEY.lower()}"]
    for key in [*wrong, f"Basic {KEY}", "Bearer " + "x" * 2000]:
        status, seconds = keyed.announce(key)
        assert status == "HTTP/1.1 401 Unauthorized", key
        assert seconds < 1
    for path in ("/health", "/metrics", "/replicas/0/health", "/replicas/1/v1/chat/completions", "/invocations"):
        assert keyed.announce(None, path)[0] == "HTTP/1.1 401 Unauthorized", path
    assert keyed.announce(f"Bearer {KEY}")[0] == "", "with the right key, nginx waits for the body"
    assert seen(keyed.backend) == []


def test_the_right_key_passes_and_what_is_open_stays_open(keyed: Front) -> None:
    right = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=keyed.url) as client:
        assert client.get("/v1/models", headers=right).status_code == 200
        assert client.get("/replicas/1/v1/models", headers={"Authorization": f"bearer {KEY}"}).status_code == 200
        assert client.get("/v1/models").json()["error"]["message"] == "The API key is missing or wrong."
        # The server behind nginx has neither path, so its own 404 shows that the request reached it.
        for path in ("/health", "/metrics", "/replicas/0/metrics"):
            assert client.get(path).json() == {"error": {"message": "no such path"}}
        assert client.options("/v1/chat/completions").status_code == 200
        large = {"messages": ["x" * 8 * 2**20]}
        assert client.post("/v1/chat/completions", headers=right, json=large, timeout=30).status_code == 200


def test_the_key_is_only_in_a_file_of_our_own_that_is_gone_after_the_run(
    light_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", "sesame4711")
    run = balanced(light_run, "model.api_key_env=SERVER_KEY", "hardware.engine.key_env=LIGHT_KEY")
    with fronted(run, tmp_path / "run") as front:
        front.announce("Bearer sesame4711")
        holders = [path for path in front.folder.rglob("*") if path.is_file() and "sesame4711" in path.read_text()]
        assert [path.name for path in holders] == ["nginx-key.conf"]
        assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600
        assert not [process for process in psutil.process_iter() if "sesame4711" in str(_argv(process))]
    assert not holders[0].exists()


def test_large_bodies_wait_on_disk_and_not_in_memory(light_run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)  # where the workers of a root's nginx cannot go
    with fronted(balanced(light_run), tmp_path / "closed/run") as front, contextlib.ExitStack() as stack:
        worker = _worker(front.folder)
        before = worker.memory_info().rss
        chunk = b"x" * 2**20
        for _ in range(8):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", front.port), timeout=5))
            length = BODY_MB * 2**20
            client.sendall(f"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
            for _ in range(32):
                client.sendall(chunk)
        assert (worker.memory_info().rss - before) / 2**20 < 8 * 3
    used = re.findall('client_body_temp_path "(.*)/nginx-body"', (tmp_path / "closed/run/nginx.conf").read_text())
    assert Path(used[0]) == tmp_path / "closed/run" or not Path(used[0]).exists()


def test_256_requests_in_flight_from_one_address_are_not_limited(light_run: Callable[..., Run], tmp_path: Path) -> None:
    with fronted(balanced(light_run), tmp_path / "run") as front:
        url = f"{front.url}/v1/chat/completions"
        assert set(asyncio.run(_statuses(url, in_flight=256, requests=6000))) == {200}


def test_one_address_cannot_take_all_connections(light_run: Callable[..., Run], tmp_path: Path) -> None:
    with fronted(balanced(light_run), tmp_path / "run") as front, contextlib.ExitStack() as stack:
        for _ in range(1024):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", front.port), timeout=5))
            client.sendall(b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        until(lambda: httpx.get(f"{front.url}/v1/models").status_code == 429)


def test_a_run_folder_that_cannot_be_written_is_one_message(light_run: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with (
            pytest.raises(ServerError, match=r"cannot be written \(N.*\): choose another folder \(output_dir=FOLDER\)"),
            configured(balanced(light_run), folder),
        ):
            pass


def test_the_published_file_works_in_another_nginx(parsed: Callable[..., Run], tmp_path: Path) -> None:
    run = parsed("stage=serve", "hardware=t4x4", "model=qwen2-vl-2b", f"hardware.port={free_ports(1)}")
    (tmp_path / "vllm.conf").write_text(nginx_files(run, tmp_path)["vllm.conf"], encoding="utf-8")
    own = f"pid {tmp_path}/pid; events {{}} http {{ access_log off; include {tmp_path}/vllm.conf; }}"
    (tmp_path / "nginx.conf").write_text(own, encoding="utf-8")
    tested = subprocess.run(
        ["nginx", "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stderr


async def _statuses(url: str, in_flight: int, requests: int) -> list[int]:
    """The statuses of small chat requests, always ``in_flight`` at a time."""
    todo = iter(range(requests))
    statuses: list[int] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for number in todo:
                async with session.post(url, data=json.dumps({"n": number})) as response:
                    statuses.append(response.status)

        await asyncio.gather(*(work() for _ in range(in_flight)))
    return statuses


def _worker(folder: Path) -> psutil.Process:
    master = psutil.Process(int((folder / "nginx.pid").read_text()))
    return master.children()[0]


def _argv(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []
