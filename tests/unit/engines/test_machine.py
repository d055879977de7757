"""``hardware=auto``: what nvidia-smi, or its absence, makes of it. A program of that name stands first in PATH."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import command_line
from vd100k.engines import machine
from vd100k.errors import ConfigError

T4 = "Tesla T4, 15360, 7.5"
A100 = "NVIDIA A100-SXM4-80GB, 81920, 8.0"
SMI = """#!/bin/sh
case "$*" in
*query-gpu=index,name,memory.total,compute_cap,uuid*) printf '%s\\n' "$LISTED" ;;
esac
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    return folder


def serve(folder: Path, lines: list[str] | None, *overrides: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The dry run of a server on a machine whose nvidia-smi prints ``lines``; None is a machine without nvidia-smi."""
    if lines is not None:
        text = "\n".join(f"{k}, {line}, GPU-{'abcd'[k]}" for k, line in enumerate(lines))
        (folder / "nvidia-smi").write_text(SMI.replace('"$LISTED"', f"'{text}'"), encoding="utf-8")
        (folder / "nvidia-smi").chmod(0o755)
    clean = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    path = f"{folder}:{os.environ['PATH']}" if lines is not None else str(folder)
    command = command_line("stage=serve", "hardware=auto", "model=qwen2-vl-2b", "dry_run=true", *overrides)
    return subprocess.run(
        command, cwd=folder, env={**clean, "PATH": path, **env}, capture_output=True, text=True, timeout=60, check=False
    )


def test_four_t4s_get_a_replica_each_behind_nginx_in_float16(programs: Path) -> None:
    done = serve(programs, [T4] * 4)
    assert done.returncode == 0, done.stderr
    assert "hardware=auto: 4 × Tesla T4, 15 GB each, float16" in done.stdout
    replicas = [line for line in done.stdout.splitlines() if "vllm.entrypoints" in line]
    assert [line.split()[0] for line in replicas] == [f"CUDA_VISIBLE_DEVICES={k}" for k in range(4)]
    assert all("--dtype half" in line for line in replicas)
    assert "upstream" in done.stdout


def test_one_new_gpu_is_used_in_bfloat16_without_nginx(programs: Path) -> None:
    done = serve(programs, [A100])
    assert "hardware=auto: 1 × NVIDIA A100-SXM4-80GB, 80 GB, bfloat16" in done.stdout
    assert "--dtype bfloat16" in done.stdout
    assert "upstream" not in done.stdout


@pytest.mark.parametrize(
    ("visible", "said"), [("1", "1 × NVIDIA A100"), ("0,2", "2 × Tesla T4"), ("GPU-b", "1 × NVIDIA A100")]
)
def test_only_visible_gpus_count(programs: Path, visible: str, said: str) -> None:
    done = serve(programs, [T4, A100, T4], CUDA_VISIBLE_DEVICES=visible)
    assert f"hardware=auto: {said}" in done.stdout, done.stderr


def test_own_settings_win(programs: Path) -> None:
    done = serve(programs, [T4] * 4, "hardware.replicas=1")
    assert done.stdout.count("vllm.entrypoints") == 1, done.stderr


def test_other_machines_need_no_nvidia_smi() -> None:
    assert machine.describe([], "darwin", "arm64")[1:] == ("m2-ultra", {})
    assert machine.describe([], "linux", "x86_64")[1:] == ("cpu", {})
    with pytest.raises(ConfigError, match="choose hardware=api"):
        machine.describe([], "linux", "aarch64")


def test_no_visible_gpu_is_a_machine_without_one(programs: Path) -> None:
    for done in (serve(programs, None), serve(programs, [T4], CUDA_VISIBLE_DEVICES="")):
        assert "hardware=auto: no NVIDIA GPU" in done.stdout, done.stderr
        assert "--dtype float32" in done.stdout


def test_a_mistyped_machine_names_auto(programs: Path) -> None:
    done = subprocess.run(command_line("stage=serve", "hardware=8xh100"), capture_output=True, text=True, check=False)
    assert "hardware=auto finds the GPUs of this machine" in done.stderr
    assert "create conf/hardware/8xh100.yaml" in done.stderr
