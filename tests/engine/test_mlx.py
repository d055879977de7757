"""MLX in a separate environment, as on a Mac; on Linux, its CPU build."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.dialects import tried
from tests.conftest import command_line, free_ports
from tests.engine.conftest import REFUSED, START_S, Running, rows
from vd100k.tiny import checkpoint

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "arm64", "aarch64"), reason="MLX has no build for this machine"
    ),
]
MLX = "mlx-vlm[cpu]==0.7.10" if sys.platform == "linux" else "mlx-vlm==0.7.10"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that contains MLX."""
    uv, folder = Path(sys.executable).with_name("uv"), tmp_path_factory.mktemp("mlx") / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", folder / "bin/python", MLX], check=True)
    return folder / "bin" / "python"


def dense(folder: Path) -> Path:
    """The teacher with a vocabulary without gaps, because mlx_vlm keeps the tokens in a list."""
    checkpoint.unpack("teacher", folder)
    for name in ("tokenizer.json", "vocab.json"):
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        vocab = content["model"]["vocab"] if name == "tokenizer.json" else content
        taken = set(vocab.values())
        vocab.update({f"<unused-{k}>": k for k in range(max(taken)) if k not in taken})
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_mlx_starts_answers_and_stops(launch: Callable[..., Running], python: Path, tmp_path: Path) -> None:
    port = free_ports(1)
    mlx = [
        *("engine@hardware.engine=mlx", f"hardware.engine.python={python}", f"hardware.port={port}"),
        *("model=tiny-teacher", f"model.path={dense(tmp_path / 'model')}", "task=scene"),
    ]
    subprocess.run(
        command_line("stage=render", "stage.train=4", "stage.heldout=1"), cwd=tmp_path, check=True, capture_output=True
    )
    running = launch(tmp_path, "stage=serve", *mlx)
    running.wait_for("Ctrl-C stops it", START_S)
    done = subprocess.run(
        command_line("stage=generate", "images=outputs/images/scenes-42/train", "dataset=scenes", *mlx),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "using the server that is already running at" in done.stdout
    right = {row["id"]: row["answer"] for row in rows(tmp_path / "outputs/images/scenes-42/train.jsonl")}
    made = rows(tmp_path / "outputs/data/scenes/scene/tiny-teacher.jsonl")
    assert [json.loads(row["answer"]) == right[row["id"]] for row in made] == [True] * 4

    image = tmp_path / "outputs/images/scenes-42/train/00000.png"
    outcomes = tried(f"http://127.0.0.1:{port}/v1", image, image)
    assert {name for name, outcome in outcomes.items() if outcome.startswith("refused")} == REFUSED["mlx"], outcomes
    assert running.interrupt() < 10
