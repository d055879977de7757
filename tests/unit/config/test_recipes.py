"""The recipes of CONTRIBUTING.md: their files are made, composed and run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, draw_pictures
from vd100k import help
from vd100k.config.run import Run
from vd100k.engines.commands import replicas
from vd100k.io import jsonl

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
Blocks = list[tuple[str, str, str]]  # language, path, content


def blocks(title: str) -> Blocks:
    """The files and edits of a recipe; the first line of each names its path."""
    recipe = re.split(r"^## ", TEXT.split(f"## {title}\n", 1)[1], flags=re.MULTILINE)[0]
    found = re.findall(r"^```(yaml|diff|python)\n# (\S+)\n(.*?)^```", recipe, re.MULTILINE | re.DOTALL)
    assert found, title
    return found


def apply(root: Path, recipe: Blocks) -> None:
    """Make the files of a recipe, and replace the lines that its edits name."""
    for language, name, content in recipe:
        path = root / name
        if language != "diff":
            assert not path.exists()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            continue
        lines = content.splitlines()
        old = "".join(f"{line[1:]}\n" for line in lines if line.startswith("-"))
        new = "".join(f"{line[1:]}\n" for line in lines if line.startswith("+"))
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} has not exactly once:\n{old}"
        path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def composed(parsed: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """A typed run with the options of a recipe."""

    def compose(title: str, *overrides: str) -> Run:
        apply(tmp_path, blocks(title))
        return parsed(f"hydra.searchpath=[file://{tmp_path / 'conf'}]", *overrides)

    return compose


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of what a run needs, to apply a recipe to."""
    for name in ("conf", "vd100k"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", tmp_path)
    return tmp_path


def call(repository: Path, *overrides: str) -> str:
    command = [sys.executable, "run.py", "tracking=none", *overrides]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_recipe_that_a_message_names_exists() -> None:
    for title in help.RECIPES.values():
        assert f"\n## {title}\n" in TEXT


def test_a_machine_gets_one_replica_for_each_gpu(composed: Callable[..., Run]) -> None:
    run = composed("Add a machine", "stage=serve", "hardware=8xh100", "model=qwen2-vl-7b")
    commands = replicas(run)
    assert [command.env["CUDA_VISIBLE_DEVICES"] for command in commands] == [str(k) for k in range(8)]
    assert [command.argv[-1] for command in commands] == [str(8001 + k) for k in range(8)]


def test_an_exception_for_a_model_applies_on_its_machine(composed: Callable[..., Run]) -> None:
    run = composed("Add a machine", "stage=serve", "hardware=8xh100", "model=qwen2-vl-72b")
    assert [command.env["CUDA_VISIBLE_DEVICES"] for command in replicas(run)] == ["0,1", "2,3", "4,5", "6,7"]


def test_a_model_is_served_and_trained(
    composed: Callable[..., Run], parsed: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    cache = tmp_path / "hub/models--Qwen--Qwen3-VL-235B-A22B-Instruct"
    for file, text in {"refs/main": "abc", "snapshots/abc/config.json": '{"model_type": "qwen3_vl_moe"}'}.items():
        (cache / file).parent.mkdir(parents=True)
        (cache / file).write_text(text, encoding="utf-8")
    chosen = ["hardware=single-gpu", "model=qwen3-vl-235b"]
    served = composed("Add a model", "stage=serve", *chosen)
    assert served.served_name == "Qwen3-VL-235B-A22B-Instruct"
    assert "Qwen/Qwen3-VL-235B-A22B-Instruct" in replicas(served)[0].argv
    trained = parsed(f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "stage=finetune", "dataset=d", *chosen).stage
    assert (trained.args["model_type"], trained.env["MAX_PIXELS"]) == ("qwen3_vl_moe", served.model.max_pixels)
    assert trained.env["MIN_PIXELS"] == served.model.min_pixels == 65_536


def test_a_model_behind_an_api_is_asked_there(composed: Callable[..., Run]) -> None:
    run = composed("Add a model", "stage=generate", "images=p", "hardware=api", "model=my-api-model")
    assert (run.hardware.urls, run.served_name) == (["https://api.example.com/v1"], "my-api-model")


def test_a_task_has_its_prompt_in_both_languages(composed: Callable[..., Run]) -> None:
    run = composed("Add a task", "stage=generate", "images=p", "task=colour", "task.language=en")
    assert run.task.prompt.startswith("What is the dominant colour")
    assert run.task.reader == "text"


def test_an_engine_is_chosen_on_any_machine(composed: Callable[..., Run]) -> None:
    run = composed(
        "Add an engine", "stage=serve", "hardware=t4x4", "engine@hardware.engine=sglang", "model=qwen2-vl-2b"
    )
    argv = replicas(run)[0].argv
    assert argv[1:3] == ["-m", "sglang.launch_server"]
    assert argv[argv.index("--context-length") + 1] == "4096"
    assert "--trust-remote-code" not in argv


def test_an_output_format_writes_its_records(repository: Path) -> None:
    apply(repository, blocks("Add an output format"))
    images = draw_pictures(repository / "pictures", 4)
    rows = [
        {"id": path.name, "image": str(path), "question": "Which colour?", "answer": "red", "model": "m"}
        for path in sorted(images.iterdir())
    ]
    data = repository / "outputs/data/pictures/details"
    data.mkdir(parents=True)
    jsonl.write(data / "m.jsonl", rows)
    call(repository, "stage=convert", "images=pictures", "answers=m", "format=openai", "stage.split_dataset_ratio=0")
    record = json.loads((data / "m.openai/train.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert [message["role"] for message in record["messages"]][-2:] == ["user", "assistant"]
    assert record["messages"][-2]["content"][0]["type"] == "image_url"


def test_a_stage_plans_and_runs(repository: Path) -> None:
    apply(repository, blocks("Add a stage"))
    data = repository / "outputs/data/d/details"
    data.mkdir(parents=True)
    jsonl.write(data / "m.jsonl", [{"id": "1"}, {"id": "2"}])
    assert "count the rows in outputs/data/d/details" in call(repository, "stage=count", "dataset=d", "dry_run=true")
    assert "m: 2 rows" in call(repository, "stage=count", "dataset=d")
    assert "m: 2 rows" not in call(repository, "stage=count", "dataset=d", "stage.at_least=3")
    document = repository / "configuration.md"
    subprocess.run([sys.executable, "-m", "vd100k.command_line.reference", str(document)], cwd=repository, check=True)
    assert "| `stage.at_least` | integer ≥ 0 | `1` |" in document.read_text(encoding="utf-8")
