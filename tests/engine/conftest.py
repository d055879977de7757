"""Real engines shared by all tests: two vLLM replicas of the tiny teacher behind nginx, started once."""

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
# Tests on nginx are skipped on a machine without nginx, but never in CI.
NGINX = shutil.which("nginx") is not None or "CI" in os.environ
needs_nginx = pytest.mark.skipif(not NGINX, reason="nginx is not installed here")


# The requests of examples/dialects.py that each engine refuses, as in the table in docs/serving.md.
REFUSED = {
    "vllm": {"type image, functions", "type image, functions, streamed", "two file:// images"},
    "swift": {"two file:// images"},
    "mlx": {"type image, functions", "type image, functions, streamed", "two file:// images"},
}


@dataclass
class Running:
    """A running command: its output so far, and a way to interrupt it."""

    process: subprocess.Popen[str]
    lines: list[str]

    def wait_for(self, text: str, seconds: float) -> str:
        """The first line of output that contains ``text``; fails after ``seconds`` or when the command exits."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in list(self.lines):
                if text in line:
                    return line
            assert self.process.poll() is None, "".join(self.lines)
            time.sleep(0.05)
        raise AssertionError(f"{text!r} was not printed within {seconds} s:\n{''.join(self.lines)}")

    def family(self) -> list[psutil.Process]:
        """All processes below the command."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> float:
        """Press Ctrl-C, and return the seconds until the command and all its processes were gone."""
        family = self.family()
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not alive, alive
        return time.monotonic() - began


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., Running]]:
    """Start commands in a folder; those still running after the last test are interrupted."""
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
    """Two running replicas, and the folder with rendered pictures that they were started in."""

    folder: Path
    port: int
    running: Running

    @property
    def lines(self) -> list[str]:
        """The output of the command so far."""
        return self.running.lines

    def wait_for(self, text: str, seconds: float, times: int) -> None:
        """Wait until ``times`` lines of output contain ``text``; fails after ``seconds``."""
        end = time.monotonic() + seconds
        while sum(text in line for line in list(self.lines)) < times:
            assert time.monotonic() < end, "".join(self.lines)
            time.sleep(0.5)

    @property
    def overrides(self) -> list[str]:
        """The overrides with which another command finds these replicas."""
        return two_behind_nginx(self.port)

    @property
    def replicas(self) -> list[int]:
        """The ports of the two replicas."""
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


@dataclass
class Demo:
    """The finished demo: the folder it ran in, its command, what it printed, its summary and its report."""

    folder: Path
    command: list[str]
    output: str
    summary: dict[str, Any]
    report: Path


@pytest.fixture(scope="session")
def demo(launch: Callable[..., Running], tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    command = ["experiment=demo", f"hardware.port={free_ports(1)}", "tracking=wandb"]
    running = launch(folder, *command)
    running.process.wait(1000)
    output = "".join(running.lines)
    assert running.process.returncode == 0, output
    report = (folder / "outputs/latest/report.html").resolve()
    return Demo(folder, command, output, summary(folder), report)


def two_behind_nginx(port: int) -> list[str]:
    balancer = "nginx" if NGINX else "none"
    return ["hardware.replicas=2", f"hardware.balancer={balancer}", f"hardware.port={port}"]


def summary(folder: Path) -> dict[str, Any]:
    """The ``summary.json`` of the last run in ``folder``."""
    read: dict[str, Any] = json.loads((folder / "outputs/latest/summary.json").read_text(encoding="utf-8"))
    return read


def rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
