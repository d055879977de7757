"""Models that are not listed: their names and family come from the ``config.json`` of a folder or of the hub."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.conftest import ROOT, command_line, free_ports
from vd100k.config.run import Run
from vd100k.errors import ConfigError
from vd100k.io.preprocessor import image_sizes
from vd100k.tiny import checkpoint as tiny

Parsed = Callable[..., Run]
# The parts of published config.json files that say which family a model is of.
CONFIGS: dict[str, dict[str, Any]] = {
    "Qwen2-VL-2B-Instruct": {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "hidden_size": 1536,
        "vision_config": {"depth": 32, "embed_dim": 1280, "patch_size": 14, "spatial_merge_size": 2},
    },
    "Qwen2.5-VL-72B-Instruct": {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "hidden_size": 8192,
        "vision_config": {"depth": 32, "model_type": "qwen2_5_vl", "patch_size": 14, "spatial_merge_size": 2},
    },
    "Qwen3-VL-8B-Instruct": {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "text_config": {"model_type": "qwen3_vl_text", "hidden_size": 4096},
        "vision_config": {"model_type": "qwen3_vl", "patch_size": 16, "spatial_merge_size": 2},
    },
    "Qwen3-VL-30B-A3B-Instruct": {
        "architectures": ["Qwen3VLMoeForConditionalGeneration"],
        "model_type": "qwen3_vl_moe",
        "vision_config": {"model_type": "qwen3_vl_moe", "patch_size": 16, "spatial_merge_size": 2},
    },
    "InternVL3-8B-hf": {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "vision_config": {"model_type": "internvl_vision", "patch_size": [14, 14]},
    },
    "InternVL2_5-8B": {
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoModel": "modeling_internvl_chat.InternVLChatModel"},
        "model_type": "internvl_chat",
        "template": "internvl2_5",
    },
    "Unheard-Of-9B": {"architectures": ["UnheardOf"], "model_type": "unheard_of"},
}
FAMILIES = {  # ms-swift's model_type and template, and the side of a visual token
    "Qwen2-VL-2B-Instruct": ("qwen2_vl", "qwen2_vl", 28),
    "Qwen2.5-VL-72B-Instruct": ("qwen2_5_vl", "qwen2_5_vl", 28),
    "Qwen3-VL-8B-Instruct": ("qwen3_vl", "qwen3_vl", 32),
    "Qwen3-VL-30B-A3B-Instruct": ("qwen3_vl_moe", "qwen3_vl", 32),
    "InternVL3-8B-hf": ("internvl", "internvl_hf", 28),
    "InternVL2_5-8B": ("internvl_chat", None, 28),
    "Unheard-Of-9B": (None, None, 28),
}


def model_folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir(parents=True)
    (parent / name / "config.json").write_text(json.dumps(CONFIGS[name]), encoding="utf-8")
    return parent / name


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_is_enough(parsed: Parsed, tmp_path: Path, name: str) -> None:
    folder = model_folder(tmp_path, name)
    run = parsed("stage=finetune", "dataset=d", "hardware=single-gpu", "model=hf", f"model.path={folder}")
    model = run.model
    assert (model.model_type, model.template, model.token_side) == FAMILIES[name]
    assert (model.name, run.served_name) == (name.lower(), name)
    assert not model.max_pixels % model.token_side**2
    assert run.stage.env["MIN_PIXELS"] == model.min_pixels == (65_536 if model.token_side == 32 else 3136)
    has_system_prompt = model.model_type in ("qwen2_vl", "qwen2_5_vl")
    assert run.stage.args["system"] == ("You are a helpful assistant." if has_system_prompt else None)


def test_keys_that_are_set_win_over_config_json(parsed: Parsed, tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "Qwen2-VL-2B-Instruct")
    own = ["model.name=mine", "model.served_name=served", "model.template=qvq", "model.max_pixels=784"]
    model = parsed("stage=serve", "model=hf", f"model.path={folder}", *own).model
    assert (model.name, model.served_name, model.template, model.max_pixels) == ("mine", "served", "qvq", 784)
    assert model.model_type == "qwen2_vl"


def test_the_teacher_may_be_any_model_too(parsed: Parsed, tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "Qwen3-VL-8B-Instruct")
    teacher = ["model@teacher.model=hf", f"teacher.model.path={folder}"]
    run = parsed("stage=generate", "images=p", *teacher)
    assert (run.model.name, run.model.model_type) == ("qwen3-vl-8b-instruct", "qwen3_vl")
    assert run.paths.rows.name == "qwen3-vl-8b-instruct.jsonl"


def test_a_model_file_of_three_lines_is_enough(parsed: Parsed, tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "Qwen3-VL-8B-Instruct")
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/eight.yaml").write_text(f"# Eight billion.\nname: eight\npath: {folder}\n")
    run = parsed(f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "stage=serve", "model=eight")
    assert (run.model.name, run.served_name) == ("eight", "Qwen3-VL-8B-Instruct")
    assert (run.model.model_type, run.model.template, run.model.max_pixels) == ("qwen3_vl", "qwen3_vl", 1_003_520)


class Hub(BaseHTTPRequestHandler):
    """The three requests with which huggingface_hub downloads a file."""

    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name = next((name for name in CONFIGS if f"/{name}/" in self.path), None)
        if name is None:
            self.send_error(404)
            return
        body = json.dumps(CONFIGS[name]).encode()
        if self.path.startswith("/api/models/"):
            files = [{"rfilename": "config.json"}, {"rfilename": "model.safetensors"}]
            body = json.dumps({"id": f"Qwen/{name}", "sha": self.COMMIT, "siblings": files}).encode()
        if "/tree/" in self.path:
            body = json.dumps([{"type": "file", "path": "config.json", "size": len(body), "oid": "abc"}]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"abc"')
        self.send_header("X-Repo-Commit", self.COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def serve(tmp_path: Path, endpoint: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    command = command_line("stage=serve", "hardware=single-gpu", "dry_run=true", *overrides)
    return subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **own}, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_model_on_the_hub_is_enough_and_its_cache_works_without_the_hub(tmp_path: Path, hub: str) -> None:
    chosen = ["model=hf", "model.path=Qwen/Qwen3-VL-8B-Instruct"]
    first = serve(tmp_path, hub, *chosen)
    assert first.returncode == 0, first.stderr
    assert "--served-model-name Qwen3-VL-8B-Instruct --model Qwen/Qwen3-VL-8B-Instruct" in first.stdout
    nowhere = f"http://127.0.0.1:{free_ports(1)}"
    assert serve(tmp_path, nowhere, *chosen).stdout == first.stdout
    other = serve(tmp_path, nowhere, "model=hf", "model.path=Qwen/Qwen2-VL-2B-Instruct")
    assert f"it is not in the cache of hf, and {nowhere} cannot be reached" in other.stderr
    assert "model.model_type=" in other.stderr
    by_hand = ["model.model_type=qwen2_vl", "model.template=qwen2_vl"]
    assert not serve(tmp_path, nowhere, "model=hf", "model.path=Qwen/Qwen2-VL-2B-Instruct", *by_hand).returncode
    assert not serve(tmp_path, nowhere, "model=qwen2-vl-2b").returncode


def test_a_model_that_does_not_exist_is_named(tmp_path: Path, hub: str) -> None:
    for path, reason in [
        ("Qwen/Nothing", f"{hub} does not give its config.json"),
        (str(tmp_path / "nothing"), "there is no such folder"),
        (str(tmp_path), "the folder has no config.json"),
    ]:
        done = serve(tmp_path, hub, "model=hf", f"model.path={path}")
        assert (done.returncode, f"model.path={path}: {reason}" in done.stderr) == (1, True), done.stderr
    assert "set model.path=ORG/NAME" in serve(tmp_path, hub, "model=hf").stderr


def test_every_family_is_one_of_ms_swift() -> None:
    swift = pytest.importorskip("swift")
    folder = Path(swift.__file__).parent
    known = {kind: (folder / kind / "constant.py").read_text(encoding="utf-8") for kind in ("model", "template")}
    families = OmegaConf.load(ROOT / "conf/base/families.yaml")
    for family in (families[name] for name in families if name != "other"):
        assert f" = '{family.model_type}'" in known["model"]
        assert not family.get("template") or f" = '{family.template}'" in known["template"]


def checkpoint(parent: Path, name: str, **sizes: Any) -> str:
    """The override for a folder of this family whose image processor has these sizes."""
    folder = model_folder(parent, name)
    content = {"patch_size": CONFIGS[name]["vision_config"]["patch_size"], "merge_size": 2, **sizes}
    (folder / "preprocessor_config.json").write_text(json.dumps(content), encoding="utf-8")
    return f"model.path={folder}"


TRAINS = ["stage=finetune", "dataset=d", "model=hf"]


def test_sizes_are_those_of_the_checkpoint_itself(parsed: Parsed, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, "Qwen3-VL-8B-Instruct", size={"shortest_edge": 4096, "longest_edge": 200_704})
    run = parsed(*TRAINS, path)
    assert (run.model.token_side, run.model.min_pixels, run.model.max_pixels) == (32, 4096, 200_704)
    assert (run.stage.env["MIN_PIXELS"], run.stage.env["MAX_PIXELS"]) == (4096, 200_704)
    own = parsed(*TRAINS, path, "model.min_pixels=65536", "model.max_pixels=102400").model
    assert (own.min_pixels, own.max_pixels) == (65_536, 102_400)


def test_a_cap_that_the_checkpoint_contradicts_is_refused_with_the_file(parsed: Parsed, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, "Qwen2-VL-2B-Instruct", min_pixels=12_544, max_pixels=100_352)
    with pytest.raises(ConfigError, match=r"100352 pixels \(.*preprocessor_config.json\).*set model.max_pixels=100352"):
        parsed(*TRAINS, path, "model.max_pixels=200704")
    with pytest.raises(ConfigError, match=r"max_pixels=784 is below the 12544 .*preprocessor_config.json.*=12544 or"):
        parsed(*TRAINS, path, "model.max_pixels=784")
    # Serving alone may use larger images than the checkpoint says.
    assert parsed("stage=serve", "model=hf", path, "model.max_pixels=200704").model.max_pixels == 200_704


@pytest.mark.parametrize("model", ["tiny-student", "tiny-teacher", "tiny-reader"])
def test_the_sizes_of_the_tiny_models_are_those_of_their_files(parsed: Parsed, tmp_path: Path, model: str) -> None:
    """Their files may be made after the configuration is read."""
    tiny.save_tokenizer(tmp_path)
    stated = image_sizes(tmp_path)
    own = parsed("stage=serve", f"model={model}").model
    assert stated
    assert (own.token_side, own.min_pixels, own.max_pixels) == (stated.token_side, stated.min_pixels, stated.max_pixels)


def test_quantized_weights_answer_but_are_not_trained(parsed: Parsed, tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "Qwen2-VL-2B-Instruct")
    config = CONFIGS["Qwen2-VL-2B-Instruct"] | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert parsed("stage=serve", "model=hf", f"model.path={folder}").model.quantization == "awq"
    with pytest.raises(ConfigError, match="weights quantized as awq, which can answer but not be trained"):
        parsed(*TRAINS, f"model.path={folder}")
