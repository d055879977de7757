"""The command line: the demo by default, and messages instead of stack traces."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT
from vd100k.config.parse import dataset_name
from vd100k.help import unknown_option
from vd100k.launch import with_demo

Result = subprocess.CompletedProcess[str]


@pytest.mark.parametrize(
    ("argv", "demo"),
    [
        ([], True),
        (["dry_run=true"], True),
        (["engine@hardware.engine=swift"], True),
        (["stage=serve"], False),
        (["experiment=gpt-distill"], False),
        (["images=photos"], False),
    ],
)
def test_the_demo_runs_if_the_command_line_asks_for_nothing(argv: list[str], demo: bool) -> None:
    assert with_demo(argv) == ([*argv, "experiment=demo"] if demo else argv)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (None, None),
        ("a/photos/", "photos"),
        ("trip.2024", "trip.2024"),
        ("list.jsonl", "list"),
        ("/a/照片", "照片"),
        ("/a/photos/.", "photos"),
        (2024, "2024"),
    ],
)
def test_a_data_set_is_named_after_its_folder(path: str | int | None, name: str | None) -> None:
    assert dataset_name(path) == name


def test_a_dry_run_plans_the_whole_demo_and_writes_nothing(vd100k: Callable[..., Result], tmp_path: Path) -> None:
    shown = vd100k("dry_run=true")
    assert shown.returncode == 0, shown.stderr
    for piece in ("1. render", "vllm.entrypoints", "append rows", "swift.cli.main sft", "export", "--port 8000"):
        assert piece in shown.stdout
    assert not (tmp_path / "outputs/data").exists()
    assert not (tmp_path / "outputs/models").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stage=generate", "images=nowhere"], "images=nowhere: no such folder or file"),
        (["stage=generate", "images=empty"], "no images in it"),
        (["stage=generate", "images=one.png", "output_dir=/dev/null/x"], "Set output_dir=FOLDER"),
        (["stage=generate", "images=empty", "hardware=null"], "hardware=null: choose an option"),
        (["stage=generate", "images=empty", "sweep=null"], "sweep=null: this key holds others"),
        (["stage=generate", "images=empty", "hardware=foo/bar"], "hardware=foo/bar: there is no such option"),
        (["stage=generate", "images=one.png"], "neither a folder of images nor"),
        (["stage=serve", "model=qwen9"], "CONTRIBUTING.md, “Add a model”"),
        (["stage=serve", "model.path=./nothing", "model.build=null"], "the model folder does not exist"),
        (["stage=convert", "dataset=d"], "there are no such rows"),
        (["stage=finetune", "dataset=d"], "the training file does not exist"),
        (["stage=export", "dataset=d"], "the adapter does not exist"),
        (["stage=serve", "dataset=d", "weights=merged"], "the exported model is missing"),
        (["stage=serve", "model=qwen2-vl-2b", "hardware=m2-ultra"], "pip install mlx-vlm"),
        (["stage=generate", "images=texts"], "There is no answer about any of the 1 images of texts"),
    ],
)
def test_bad_input_is_one_message_without_a_stack_trace(
    vd100k: Callable[..., Result], tmp_path: Path, overrides: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "one.png")
    (tmp_path / "texts/a.jpg").write_text("hello", encoding="utf-8")
    if "images=texts" in overrides:
        overrides = [
            *overrides,
            "hardware=api",
            "hardware.urls=[http://127.0.0.1:9/v1]",
            "model.api_key_env=null",
            "stage.check=false",
        ]
    done = vd100k(*overrides)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) < 30


def test_a_port_in_use_is_an_error_with_its_remedy(vd100k: Callable[..., Result]) -> None:
    import socket

    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        port = occupied.getsockname()[1]
        done = vd100k("stage=serve", "engine@hardware.engine=swift", f"hardware.port={port}")
    assert done.returncode == 1
    assert f"port {port} is in use" in done.stderr
    assert "hardware.port=PORT" in done.stderr


@pytest.mark.parametrize("stage", ["generate", "serve", "pipeline"])
def test_the_resolved_configuration_can_be_printed(vd100k: Callable[..., Result], stage: str) -> None:
    done = vd100k("--cfg", "job", "--resolve", f"stage={stage}", "images=photos")
    assert done.returncode == 0, done.stderr
    assert "variant: null" in done.stdout
    assert "${" not in done.stdout


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("model=qwen2-vl-2", "model=qwen2-vl-2: there is no such option. Did you mean qwen2-vl-2b?"),
        ("model@teacher.model=gpt-5", "model@teacher.model=gpt-5: there is no such option"),
        ("hardware=t4x4,t4x8", "hardware=t4x8: there is no such option"),
        ("task=mine/task", "task=mine/task: there is no such option"),
    ],
)
def test_an_unknown_option_is_named_with_the_existing_ones(argument: str, message: str) -> None:
    shown = unknown_option(["limit=1", argument], ROOT / "conf") or ""
    assert message in shown
    assert "Available: " in shown


@pytest.mark.parametrize(
    "argv",
    [
        ["model=qwen2-vl-2b,qwen2-vl-7b", "model.name=anything", "engine@hardware.engine=vllm"],
        ["model=choice(a,b)", "model="],
        ["--config-dir", "folder", "model=mine"],
        ["-cp=/folder", "model=mine"],
        ["model=mine", "hydra.searchpath=[file://folder]"],
    ],
)
def test_other_arguments_are_left_to_hydra(argv: list[str]) -> None:
    assert unknown_option(argv, ROOT / "conf") is None
