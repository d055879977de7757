"""Real engines, started once for all tests: two vLLM replicas of the tiny teacher behind nginx."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import command_line, free_ports

START_S = 400  # two replicas share two cores
# Only where someone tries the project on a machine without nginx are its tests left out, never in CI.
NGINX = shutil.which("nginx") is not None or "CI" in os.environ
needs_nginx = pytest.mark.skipif(not NGINX, reason="nginx is not installed here")


# Which of examples/dialects.py an engine does not take; the table in docs/serving.md says the same.
REFUSED = {
    "vllm": {"type image, functions", "type image, functions, streamed", "two file:// images"},
    "swift": {"two file:// images"},
    "mlx": {"type image, functions", "type image, functions, streamed", "two file:// images"},
}


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep all engine tests on one xdist worker: they share the engines of the session fixtures."""
    for item in items:
        if item.get_closest_marker("engine"):
            item.add_marker(pytest.mark.xdist_group("engine"))


@dataclass
class Running:
    """A command line at work: what it has said so far, and how to end it."""

    process: subprocess.Popen[str]
    lines: list[str]

    def wait_for(self, text: str, seconds: float) -> str:
        """The first line with ``text``."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in list(self.lines):
                if text in line:
                    return line
            assert self.process.poll() is None, "".join(self.lines)
            time.sleep(0.05)
        raise AssertionError(f"{text!r} not said within {seconds} s:\n{''.join(self.lines)}")

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> float:
        """Ctrl-C; seconds until it and all it had started were gone."""
        family = self.family()
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not alive, alive
        return time.monotonic() - began


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., Running]]:
    """Start the command line in a folder; whatever is still at work at the end is interrupted."""
    started: list[Running] = []

    def start(folder: Path, *overrides: str) -> Running:
        process = subprocess.Popen(
            command_line(*overrides), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        running = Running(process, [])
        threading.Thread(target=lambda: running.lines.extend(process.stdout or ()), daemon=True).start()
        started.append(running)
        return running

    yield start
    for running in started:
        if running.process.poll() is None:
            running.interrupt()


@dataclass
class Fleet:
    """A folder with rendered pictures in it, and two replicas that were started from there."""

    folder: Path
    port: int
    running: Running

    @property
    def said(self) -> list[str]:
        return self.running.lines

    def wait_for(self, text: str, seconds: float, times: int) -> None:
        """Until so many lines had the text in them."""
        end = time.monotonic() + seconds
        while sum(text in line for line in list(self.said)) < times:
            assert time.monotonic() < end, "".join(self.said)
            time.sleep(0.5)

    @property
    def overrides(self) -> list[str]:
        return two_behind_nginx(self.port)

    @property
    def replicas(self) -> list[int]:
        first = self.port + (1 if NGINX else 0)
        return [first, first + 1]


@pytest.fixture(scope="session")
def fleet(launch: Callable[..., Running], tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    folder = tmp_path_factory.mktemp("fleet")
    subprocess.run(
        command_line("stage=render", "stage.train=48", "stage.heldout=8"), cwd=folder, check=True, capture_output=True
    )
    port = free_ports(3)
    settings = ["model=tiny-teacher", "model.images_per_prompt=2", "task=scene", *two_behind_nginx(port)]
    running = launch(folder, "stage=serve", *settings)
    running.wait_for("Ctrl-C stops it", START_S)
    return Fleet(folder, port, running)


def two_behind_nginx(port: int) -> list[str]:
    balancer = "nginx" if NGINX else "none"
    return ["hardware.replicas=2", f"hardware.balancer={balancer}", f"hardware.port={port}"]


def summary(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "outputs/latest/summary.json").read_text(encoding="utf-8"))
    return read


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
