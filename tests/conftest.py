"""Fixtures and helpers that many tests use: parsed configurations, the command line, ports and images."""

from __future__ import annotations

import csv
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from vd100k import launch  # noqa: F401  (registers the resolvers)
from vd100k.config.parse import parse
from vd100k.config.run import Run

ROOT = Path(__file__).parent.parent
os.environ["LC_ALL"] = "C.UTF-8"  # which decides the language of prompts


@pytest.fixture(scope="session")
def parsed() -> Iterator[Callable[..., Run]]:
    """Turns overrides into a typed run, as the command line does."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        yield lambda *overrides: parse(hydra.compose("config", with_model(overrides)))


def with_model(overrides: Sequence[str]) -> list[str]:
    """The overrides with the smallest model if they choose none; the word "no-model" is a run without one."""
    chosen = any(one == "no-model" or one.startswith(("model=", "experiment=")) for one in overrides)
    return [*(one for one in overrides if one != "no-model"), *([] if chosen else ["model=tiny-student"])]


def command_line(*overrides: str) -> list[str]:
    """The command with these overrides; W&B, which takes seconds per run, is off unless they turn it on."""
    tracking = [] if any(override.startswith("tracking=") for override in overrides) else ["tracking=none"]
    return [sys.executable, str(ROOT / "run.py"), *with_model(overrides), *tracking]


@pytest.fixture
def vd100k(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in the test's temporary folder until it exits."""

    def call(*overrides: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command_line(*overrides), cwd=tmp_path, capture_output=True, text=True, timeout=timeout, check=False
        )

    return call


# A lightweight engine that starts at once, and the folder of its configuration.
LIGHT = ["--config-dir", str(ROOT / "tests" / "conf"), "engine@hardware.engine=light"]
os.environ["REPOSITORY"] = str(ROOT)


@pytest.fixture
def light_run(parsed: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """A typed run of stage=serve with the light engine and with outputs in the test's temporary folder."""
    search = f"hydra.searchpath=[file://{ROOT / 'tests' / 'conf'}]"
    return lambda *overrides: parsed(
        *(search, "stage=serve", "engine@hardware.engine=light", f"output_dir={tmp_path / 'outputs'}"),
        *("tracking=none", f"hardware.port={free_ports(3)}", *overrides),
    )


def sweep_table(folder: Path) -> list[dict[str, str]]:
    """The rows of the latest ``sweep.csv`` of the outputs in ``folder``."""
    path = max(folder.glob("outputs/sweeps/*/*/sweep.csv"))
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def free_ports(count: int) -> int:
    """The first of ``count`` consecutive free ports."""
    # Processes that start together have neighbouring numbers, and would look at the same ports.
    for first in range(20_000 + os.getpid() * 97 % 12_000, 32_700, count):
        sockets = [socket.socket() for _ in range(count)]
        try:
            for k, one in enumerate(sockets):
                one.bind(("127.0.0.1", first + k))
        except OSError:
            continue
        else:
            return first
        finally:
            for one in sockets:
                one.close()
    raise AssertionError("no free ports")


def draw_pictures(folder: Path, count: int, seed: int = 0) -> Path:
    """Write ``count`` images of random single colours and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for k in range(count):
        colour = tuple(rng.randrange(256) for _ in range(3))
        Image.new("RGB", (56, 56), colour).save(folder / f"{k:02d}.png")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "pictures", 6)
