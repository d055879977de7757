"""A Ray cluster on this machine: each node is a raylet in a network namespace of its own.

A namespace has its own addresses and ports, so a node is as far away as another machine: it can be killed and started
again. Making one needs root.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.conftest import free_ports

READY_S, ATTEMPTS = 120, 4
# At the head: a node that does not respond is noticed in seconds instead of a minute.
HEALTH = {"period_ms": 1000, "timeout_ms": 2000, "failure_threshold": 3}
RAY = str(Path(sys.executable).with_name("ray"))


def needs_namespaces() -> pytest.MarkDecorator:
    """Skips tests on a machine where network namespaces cannot be made."""
    allowed = not os.geteuid() and bool(shutil.which("ip")) and not _run(["unshare", "-n", "true"], check=False)
    return pytest.mark.skipif(not allowed, reason="network namespaces cannot be made here")


@dataclass
class Nodes:
    """A head without room for work, and nodes counted from 0; ``environment`` is what a program needs to use them."""

    count: int
    gpus: int
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="ray", dir="/tmp")))

    def __post_init__(self) -> None:
        self._net = secrets.token_hex(2)
        self._subnet = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
        self.head = f"{self._subnet}.1"
        self.address = f"{self.head}:{free_ports(1)}"
        health = {f"RAY_health_check_{name}": str(value) for name, value in HEALTH.items()}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(20)}
        ours = {"RAY_USAGE_STATS_ENABLED": "0", "FLEET_KEY": secrets.token_hex(10)}
        self.environment = {**os.environ, **health, **token, **ours}

    def __enter__(self) -> Nodes:
        _run(["ip", "link", "add", self._bridge, "type", "bridge"])
        _run(["ip", "addr", "add", f"{self.head}/24", "dev", self._bridge])
        _run(["ip", "link", "set", self._bridge, "up"])
        for number in range(self.count):
            self._join(number)
        port = self.address.partition(":")[2]
        head = ["--head", "--port", port, "--num-cpus", "0", "--include-dashboard", "false"]
        self._ray(self.head, "head", *head).wait(READY_S)
        for number, started in enumerate([self.start(number) for number in range(self.count)]):
            self._await(number, started)
        return self

    def __exit__(self, *_: object) -> None:
        inside = [process for number in range(self.count) for process in self.inside(number)]
        # The server of Ray's client names the address of the head alone, as do programs that still use the cluster.
        for process in [*self._processes(str(self.folder)), *self._processes(self.address), *inside]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        for number in range(self.count):
            _run(["ip", "netns", "del", self._name(number)], check=False)
        _run(["ip", "link", "del", self._bridge], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def address_of(self, number: int) -> str:
        """The address of a node."""
        return f"{self._subnet}.{10 + number}"

    def start(self, number: int) -> subprocess.Popen[bytes]:
        """Start a node, also after it was killed; the process ends when the node has joined the cluster."""
        inside = ["ip", "netns", "exec", self._name(number)]
        options = ["--address", self.address, "--num-cpus", "4", "--num-gpus", str(self.gpus)]
        return self._ray(self.address_of(number), f"node-{number}", *options, inside=inside)

    def _await(self, number: int, started: subprocess.Popen[bytes]) -> None:
        """Wait until a node has joined. On a machine with much else to do, a raylet may give up; it starts again."""
        for _ in range(ATTEMPTS):
            if started.wait(READY_S) == 0:
                return
            started = self.start(number)
        raise AssertionError((self.folder / f"node-{number}.log").read_text(encoding="utf-8"))

    def kill(self, number: int) -> None:
        """Kill a node: its raylet gets SIGKILL, as if the power failed (its programs are not told)."""
        for process in self._processes(str(self.folder / f"node-{number}")):
            with contextlib.suppress(psutil.Error):
                if process.name() == "raylet":
                    process.kill()

    def kill_head(self) -> None:
        """Kill the head's register of machines, Ray's global control service."""
        for process in self._processes(str(self.folder / "head")):
            with contextlib.suppress(psutil.Error):
                if process.name() == "gcs_server":
                    process.kill()

    def _ray(self, host: str, name: str, *options: str, inside: list[str] | None = None) -> subprocess.Popen[bytes]:
        place = ["--node-ip-address", host, "--temp-dir", str(self.folder / name), "--object-store-memory", "80000000"]
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [*(inside or []), RAY, "start", *place, "--disable-usage-stats", *options]
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def _join(self, number: int) -> None:
        name, outer = self._name(number), f"v{self._net}{number}"
        inside = ["ip", "netns", "exec", name]
        _run(["ip", "netns", "add", name])
        _run(["ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name])
        _run(["ip", "link", "set", outer, "master", self._bridge, "up"])
        _run([*inside, "ip", "addr", "add", f"{self.address_of(number)}/24", "dev", "eth0"])
        _run([*inside, "ip", "link", "set", "eth0", "up"])
        _run([*inside, "ip", "link", "set", "lo", "up"])

    @property
    def _bridge(self) -> str:
        return f"b{self._net}"

    def _name(self, number: int) -> str:
        return f"n{self._net}{number}"

    def _processes(self, folder: str) -> list[psutil.Process]:
        """Ray's processes with this folder, and their children, whose arguments do not show it."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(folder in argument for argument in process.cmdline()):
                    found += [process, *process.children(recursive=True)]
        return found

    def inside(self, number: int) -> list[psutil.Process]:
        """All processes in the namespace of a node, also those that a killed raylet has left."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self._name(number)], capture_output=True, text=True, check=False
        )
        return [psutil.Process(int(pid)) for pid in listed.stdout.split() if psutil.pid_exists(int(pid))]


def elsewhere(command: list[str]) -> list[str]:
    """A command as a machine of another name would run it, which has the same folders."""
    return ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh", *command]


def _run(command: list[str], check: bool = True) -> int:
    return subprocess.run(command, check=check, capture_output=True).returncode


def until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)
