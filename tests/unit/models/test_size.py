"""A model that is too large for the GPUs: the warning and its arithmetic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vd100k.config.run import Run
from vd100k.models import size

Parsed = Callable[..., Run]


@pytest.mark.parametrize("stage", [["serve"], ["generate", "images=p"], ["finetune", "dataset=d"]])
def test_72_billion_parameters_do_not_fit_one_gpu(parsed: Parsed, stage: list[str]) -> None:
    name, *others = stage
    (line,) = size.warnings(parsed(f"stage={name}", *others, "hardware=single-gpu", "model=qwen2-vl-72b"))
    assert "72 B parameters × 2 bytes (bfloat16) = 144 GB do not fit 1 × 24 GB" in line
    assert ("set hardware.gpus_per_replica=8" in line) == (name != "finetune")


def test_the_index_of_the_weights_is_more_exact_than_the_name(parsed: Parsed, tmp_path: Path) -> None:
    folder = tmp_path / "big-7b"
    folder.mkdir()
    index = folder / "model.safetensors.index.json"
    (folder / "config.json").write_text('{"model_type": "qwen2_vl", "torch_dtype": "bfloat16"}')
    index.write_text(json.dumps({"metadata": {"total_size": 145_400_000_000}, "weight_map": {}}))
    chosen = ["stage=serve", "hardware=single-gpu", "model=hf", f"model.path={folder}"]
    assert "72.7 B parameters × 2 bytes (bfloat16) = 145 GB" in size.warnings(parsed(*chosen))[0]
    index.write_text("broken")
    assert size.warnings(parsed(*chosen)) == []


@pytest.mark.parametrize(
    "overrides",
    [
        ["hardware=single-gpu", "model=qwen2-vl-7b"],
        ["hardware=t4x4", "model=qwen2-vl-7b"],
        ["hardware=t4x4", "model=qwen2-vl-72b"],  # quantized, by conf/fit/
        ["hardware=single-gpu", "model=qwen2-vl-72b", "hardware.gpu_memory_gb=null"],
        ["hardware=single-gpu", "model=qwen2-vl-72b", "hardware.urls=[http://h:1/v1]"],
        ["hardware=m2-ultra", "model=qwen2-vl-72b"],
    ],
)
def test_what_fits_or_is_unknown_is_not_warned_about(parsed: Parsed, overrides: list[str]) -> None:
    assert size.warnings(parsed("stage=serve", *overrides)) == []


def test_the_largest_number_in_a_name_counts_and_active_parameters_do_not(parsed: Parsed) -> None:
    own = ["model=hf", "model.model_type=qwen3_vl_moe", "model.path=Qwen/Qwen3-VL-30B-A3B-Instruct"]
    assert size.parameters(parsed("stage=serve", *own)) == 30


def test_a_dry_run_warns_once(vd100k: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = vd100k("stage=serve", "hardware=single-gpu", "model=qwen2-vl-72b", "dry_run=true")
    assert done.returncode == 0
    assert done.stdout.count("144 GB do not fit 1 × 24 GB") == 1


def test_a_listed_model_that_fits_costs_no_import_of_the_hubs_library(tmp_path: Path) -> None:
    code = (
        "import sys; from vd100k import launch\n"
        "sys.argv = ['run.py', 'stage=serve', 'hardware=single-gpu', 'model=qwen2-vl-7b', 'dry_run=true']\n"
        "launch.main(); sys.exit('huggingface_hub' in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "vllm" in done.stdout
