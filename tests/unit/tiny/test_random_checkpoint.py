"""A random checkpoint of each family: what it is made of is what the family publishes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from vd100k.tiny import checkpoint, random_checkpoint


@pytest.mark.parametrize("family", random_checkpoint.FAMILIES)
def test_a_checkpoint_of_each_family_has_its_layout(family: str, tmp_path: Path) -> None:
    # torch is only loaded by subprocesses.
    subprocess.run([sys.executable, "-m", "vd100k.tiny", family, str(tmp_path)], check=True, capture_output=True)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == family
    assert config.get("text_config", config)["vocab_size"] == checkpoint.VOCAB_SIZE
    assert not list(tmp_path.glob("tmp*"))
    with safe_open(tmp_path / "model.safetensors", "numpy") as weights:
        names = list(weights.keys())
    # The names of the published weights.
    embedding = "model.language_model.embed_tokens.weight" if family == "qwen3_vl" else "model.embed_tokens.weight"
    assert embedding in names
    assert not [name for name in names if "visual" in name and name.startswith("model.") != (family == "qwen3_vl")]


def test_only_qwen3_vl_has_no_default_system_prompt() -> None:
    with_prompt = [name for name, one in random_checkpoint.FAMILIES.items() if "You are a helpful" in one.template]
    assert with_prompt == ["qwen2_vl", "qwen2_5_vl"]
