"""Problems that would stop an engine are reported before it starts, with the file or key and the remedy."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import free_ports
from vd100k.config.run import Run
from vd100k.engines.serving.fleet import start
from vd100k.errors import DataError, ServerError, Vd100kError
from vd100k.models import model_folder as weights


def change(path: Path, **values: object) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**content, **values}), encoding="utf-8")


def cut(path: Path, to: int) -> None:
    os.truncate(path, to)


def shards(folder: Path, *, lost: bool = False, listed: str = "a") -> None:
    """Replace the weights by two shards and an index."""
    (folder / "model.safetensors").unlink()
    for k, name in enumerate("ab", 1):
        head = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
        part = folder / f"model-0000{k}-of-00002.safetensors"
        part.write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 4)
    places = {listed: "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    change(folder / "model.safetensors.index.json", weight_map=places)
    if lost:
        (folder / "model-00002-of-00002.safetensors").unlink()


def shards_without_index(folder: Path) -> None:
    shards(folder)
    (folder / "model.safetensors.index.json").unlink()


BROKEN: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no configuration": (lambda f: (f / "config.json").unlink(), ["config.json", "model.path=FOLDER"]),
    "truncated configuration": (lambda f: cut(f / "config.json", 50), ["config.json", "download it again"]),
    "configuration that is not an object": (
        lambda f: (f / "config.json").write_text("[]"),
        ["config.json", "not a JSON object"],
    ),
    "no model type": (lambda f: (f / "config.json").write_text("{}"), ["config.json", "model_type"]),
    "code": (
        lambda f: change(f / "config.json", auto_map={"AutoModel": "modeling_x.X"}),
        ["config.json", "modeling_x.py", "model.trust_remote_code=true"],
    ),
    "code of the tokenizer": (
        lambda f: change(f / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_x.X", None]}),
        ["tokenizer_config.json", "tokenization_x.py", "model.trust_remote_code=true"],
    ),
    "code of the image processor": (
        lambda f: change(f / "preprocessor_config.json", auto_map={"AutoProcessor": "else/where--processing_x.X"}),
        ["preprocessor_config.json", "processing_x.py", "model.trust_remote_code=true"],
    ),
    "code of the video processor": (
        lambda f: change(f / "video_preprocessor_config.json", auto_map={"AutoVideoProcessor": "video_x.X"}),
        ["video_preprocessor_config.json", "video_x.py", "model.trust_remote_code=true"],
    ),
    "code for MLX": (
        lambda f: change(f / "config.json", model_file="model_x.py"),
        ["config.json", "model_x.py", "model.trust_remote_code=true"],
    ),
    "code for ms-swift": (
        lambda f: change(f / "args.json", external_plugins=["plugins/plugin_x.py"]),
        ["args.json", "plugin_x.py", "model.trust_remote_code=true"],
    ),
    "a context length that is not a number": (
        lambda f: change(f / "config.json", max_position_embeddings="long"),
        ["config.json", "cannot be read", "download it again"],
    ),
    "settings of the text part that are not an object": (
        lambda f: change(f / "config.json", text_config=[7]),
        ["config.json", "cannot be read", "download it again"],
    ),
    "no tokenizer": (
        lambda f: [(f / name).unlink(missing_ok=True) for name in ("tokenizer.json", "vocab.json")],
        ["tokenizer is missing", "download tokenizer.json"],
    ),
    "truncated tokenizer settings": (lambda f: cut(f / "tokenizer_config.json", 9), ["tokenizer_config.json", "again"]),
    "no chat template": (
        lambda f: [
            change(f / "tokenizer_config.json", chat_template=None),
            *((f / name).unlink(missing_ok=True) for name in weights.TEMPLATES),
        ],
        ["chat template is missing", "download chat_template.jinja"],
    ),
    "no image processor": (
        lambda f: [(f / name).unlink(missing_ok=True) for name in weights.IMAGE_PROCESSORS],
        ["preprocessor_config.json", "download it"],
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ["weights are missing", "download model.safetensors"]),
    "truncated weights": (lambda f: cut(f / "model.safetensors", 200_000), ["model.safetensors", "200,000 bytes"]),
    "empty weights": (lambda f: cut(f / "model.safetensors", 0), ["model.safetensors", "header is missing"]),
    "truncated header": (lambda f: cut(f / "model.safetensors", 100), ["model.safetensors", "header cannot be read"]),
    "a Git LFS pointer instead of weights": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
        ["model.safetensors", "git lfs pull"],
    ),
    "a missing shard": (
        lambda f: shards(f, lost=True),
        ["model-00002-of-00002.safetensors is missing", "model.safetensors.index.json"],
    ),
    "a missing tensor": (
        lambda f: shards(f, listed="c"),
        ["model-00001-of-00002.safetensors", "lacks 1 tensors", "(c…)"],
    ),
    "a truncated shard": (
        lambda f: [shards(f), cut(f / "model-00001-of-00002.safetensors", 70)],
        ["model-00001-of-00002.safetensors", "70 bytes"],
    ),
    "a missing index": (
        shards_without_index,
        ["model.safetensors.index.json, the index of the 2 shards", "missing"],
    ),
    "a truncated index": (
        lambda f: [shards(f), cut(f / "model.safetensors.index.json", 5)],
        ["model.safetensors.index.json", "cannot be read"],
    ),
    "an empty index": (
        lambda f: [shards(f), (f / "model.safetensors.index.json").write_text("{}")],
        ["model.safetensors.index.json", "weight_map"],
    ),
    "empty pickled weights": (
        lambda f: [(f / "model.safetensors").unlink(), (f / "pytorch_model.bin").touch()],
        ["pytorch_model.bin", "empty"],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_refused(light_run: Callable[..., Run], folder: Path, tmp_path: Path, name: str) -> None:
    spoil, words = BROKEN[name]
    spoil(folder)
    with pytest.raises(Vd100kError) as refused, start(light_run(f"model.path={folder}"), tmp_path):
        pass
    for word in [str(folder), *words]:
        assert word in str(refused.value)
    assert not list(tmp_path.rglob("replica-*.log")), "no engine was started"


def test_complete_folders_have_no_faults(folder: Path) -> None:
    assert not list(weights.faults(folder, trust_remote_code=False))
    change(folder / "config.json", auto_map={"AutoModel": "modeling_x.X"})
    assert not list(weights.faults(folder, trust_remote_code=True))
    shards(folder)
    assert not list(weights.faults(folder, trust_remote_code=True))


PASSED_ON = "+hardware.engine.args.max_model_len=${hardware.max_model_len}"
LIKE_VLLM = [
    *("hardware.engine.host_option=host", "hardware.engine.key_env=LIGHT_KEY"),
    "hardware.engine.keeps_to_media=true",
]
IMPOSSIBLE: dict[str, tuple[list[str], list[str]]] = {
    "a folder that does not exist": (["model=qwen2-vl-2b", "model.path=./nowhere"], ["nowhere", "model.path=FOLDER"]),
    "no folder, and no hub": (
        ["model=qwen2-vl-2b", "model.source=local"],
        ["Qwen/Qwen2-VL-2B-Instruct", "model.path=FOLDER"],
    ),
    "no exported model": (
        ["weights=merged", "dataset=photos"],
        ["merged", "stage=export"],
    ),
    "no adapter": (
        ["weights=adapter", "dataset=photos", "hardware.engine.adapter_args={}"],
        ["adapter_config.json", "stage=finetune"],
    ),
    "an engine that serves no adapter": (["weights=adapter", "dataset=photos"], ["light", "weights=merged"]),
    "no engine": (
        ["hardware.engine.package=vd100k_nowhere", "hardware.engine.install='pip install nowhere'"],
        ["light is not installed", "pip install nowhere"],
    ),
    "no interpreter": (["hardware.engine.python=/nowhere/python"], ["/nowhere/python", "hardware.engine.python"]),
    "an interpreter without the engine": (
        ["hardware.engine.python=python3", "hardware.engine.package=vd100k_nowhere"],
        ["python3 has no vd100k_nowhere"],
    ),
    "more GPUs than there are": (
        ["hardware.gpus_per_replica=1", "hardware.replicas=5"],
        ["5 GPUs are needed", "nvidia-smi shows 4 (0: Tesla T4", "hardware.replicas=5"],
    ),
    "bfloat16 on a T4": (
        ["hardware.gpus_per_replica=1", "hardware.dtype=bfloat16"],
        ["hardware.dtype=bfloat16", "Tesla T4", "hardware.dtype=half"],
    ),
    "attention heads that cannot be divided": (
        ["hardware.gpus_per_replica=4", "hardware.dtype=half", "hardware.engine.gpus_option=tensor_parallel_size"],
        ["hardware.gpus_per_replica=4", "attention heads"],
    ),
    "a longer context than the model's": (
        ["hardware.max_model_len=1000000", PASSED_ON],
        ["hardware.max_model_len=1000000", "max_position_embeddings"],
    ),
    "images longer than the context": (
        ["hardware.max_model_len=512", "model.max_pixels=1003520", PASSED_ON],
        ["model.max_pixels=1003520", "1280 tokens", "hardware.max_model_len=512", "model.max_pixels="],
    ),
    "a server on the network without a key": (
        ["hardware.host=0.0.0.0", "hardware.balancer=nginx", *LIKE_VLLM],
        ["hardware.host=0.0.0.0", "model.api_key_env=VARIABLE"],
    ),
    "a server on the network without nginx": (
        ["hardware.host=192.168.1.5", "model.api_key_env=A_KEY", *LIKE_VLLM],
        ["hardware.host=192.168.1.5", "hardware.balancer=nginx"],
    ),
    "a server on the network that reads any file": (
        ["hardware.host=0.0.0.0", "model.api_key_env=A_KEY", *LIKE_VLLM, "hardware.engine.keeps_to_media=false"],
        ["reads any file", "hardware.host=127.0.0.1"],
    ),
    "IPv6": (["hardware.host=::1"], ["hardware.host=::1", "IPv4"]),
    "an invalid port": (["hardware.port=70000"], ["hardware.port=70000"]),
    "a folder with a tilde": (["model=qwen2-vl-2b", "model.path='~/model'"], ["model.path=~/model"]),
    "an API key that would be readable": (["model.api_key_env=A_KEY"], ["model.api_key_env", "command line"]),
    "an API key that is not set": (
        ["model.api_key_env=A_KEY_THAT_IS_NOT_SET", "hardware.engine.key_env=LIGHT_KEY"],
        ["A_KEY_THAT_IS_NOT_SET is not set", "export A_KEY_THAT_IS_NOT_SET="],
    ),
    "more weights than replicas": (
        ["hardware.replicas=2", "hardware.replica_weights=[1,2,3]"],
        ["hardware.replica_weights", "3 entries for 2 replicas"],
    ),
    "an engine that is only rendered": (
        ["hardware.engine.steps=[[grpst,start]]"],
        ["not started from here", "dry_run=true", "hardware=api"],
    ),
    "an unknown configuration key": (["hardware.replicass=2"], ["replicass"]),
}


@pytest.fixture
def four_t4s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake nvidia-smi that lists four Tesla T4."""
    folder = tmp_path / "bin"
    folder.mkdir()
    lines = "\n".join(f"{k}, Tesla T4, 15360, 7.5, GPU-{k}" for k in range(4))
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("four_t4s")
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_settings_are_refused(
    light_run: Callable[..., Run], folder: Path, tmp_path: Path, name: str
) -> None:
    overrides, words = IMPOSSIBLE[name]
    given = [] if "model=qwen2-vl-2b" in overrides else [f"model.path={folder}"]
    with pytest.raises(Exception, match=r".") as refused, start(light_run(*given, *overrides), tmp_path):
        pass
    assert isinstance(refused.value, Vd100kError) or "replicass" in name + str(refused.value)
    for word in words:
        assert word in str(refused.value)
    assert not list(tmp_path.rglob("replica-*.log")), "no engine was started"


def test_a_port_in_use_is_refused(light_run: Callable[..., Run], folder: Path, tmp_path: Path) -> None:
    port = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        run = light_run(f"model.path={folder}", f"hardware.port={port}")
        with pytest.raises(Vd100kError, match=f"port {port} is in use.*hardware.port=PORT"), start(run, tmp_path):
            pass


def test_an_unreachable_hub_is_reported_before_a_start(
    light_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_ports(1)}")  # where nothing listens
    for source, other in (("hf", "modelscope"), ("modelscope", "hf")):
        run = light_run("model=qwen2-vl-2b", f"model.source={source}")
        with pytest.raises(Vd100kError) as refused, start(run, tmp_path):
            pass
        for word in ("Qwen/Qwen2-VL-2B-Instruct", "cannot be reached", f"model.source={other}", "model.path=FOLDER"):
            assert word in str(refused.value)


def test_custom_code_from_a_hub_is_refused(
    light_run: Callable[..., Run], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub" / "models--Some--Model"
    shutil.copytree(folder, cache / "snapshots" / "abc")
    change(cache / "snapshots" / "abc" / "config.json", auto_map={"AutoModel": "modeling_x.X"})
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    run = light_run("model=qwen2-vl-2b", "model.path=Some/Model")
    with pytest.raises(DataError, match=r"modeling_x.py.*trust_remote_code"):
        weights.ensure(run)
    weights.ensure(light_run("model=qwen2-vl-2b", "model.path=Some/Model", "model.trust_remote_code=true"))


def test_custom_code_of_adapters_is_refused(light_run: Callable[..., Run], tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    head = b"{}"
    (adapter / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    change(adapter / "adapter_config.json", r=8)
    assert not list(weights.adapter_faults(adapter, trust_remote_code=False))
    change(adapter / "args.json", external_plugins=["x.py"])
    assert len(list(weights.adapter_faults(adapter, trust_remote_code=False))) == 1
    assert not list(weights.adapter_faults(adapter, trust_remote_code=True))


def test_programs_that_are_only_asked_see_no_secret_either(
    light_run: Callable[..., Run], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame-4711")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("nvidia-smi", "interpreter"):
        (tmp_path / name).write_text(f"#!/bin/sh\nenv > {tmp_path}/{name}.txt\n")
        (tmp_path / name).chmod(0o755)
    run = light_run(
        *(f"model.path={folder}", f"hardware.engine.python={tmp_path / 'interpreter'}", "hardware.dtype=half"),
        "hardware.gpus_per_replica=1",
    )
    with pytest.raises(ServerError, match="1 GPUs are needed"), start(run, tmp_path):
        pass
    for name in ("nvidia-smi", "interpreter"):
        seen = (tmp_path / f"{name}.txt").read_text()
        assert "PATH=" in seen
        assert "sesame-4711" not in seen
