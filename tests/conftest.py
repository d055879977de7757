"""What all tests share: composing, running the command line, pictures."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from vd100k import launch  # noqa: F401  (registers the resolvers)
from vd100k.config import Run
from vd100k.parsing import parse

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def parsed() -> Iterator[Callable[..., Run]]:
    """Overrides -> typed run, as the command line would give it."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        yield lambda *overrides: parse(hydra.compose("config", list(overrides)))


def command_line(*overrides: str) -> list[str]:
    """The command, without W&B where the overrides do not ask for it: it costs seconds a run."""
    tracking = [] if any(override.startswith("tracking=") for override in overrides) else ["tracking=none"]
    return [sys.executable, str(ROOT / "run.py"), *tracking, *overrides]


@pytest.fixture
def vd100k(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in the test's own folder, to its end."""

    def call(*overrides: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command_line(*overrides), cwd=tmp_path, capture_output=True, text=True, timeout=timeout, check=False
        )

    return call


def draw_pictures(folder: Path, count: int, seed: int = 0) -> Path:
    """Flat pictures of different colours."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for k in range(count):
        colour = tuple(rng.randrange(256) for _ in range(3))
        Image.new("RGB", (56, 56), colour).save(folder / f"{k:02d}.png")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "pictures", 6)
