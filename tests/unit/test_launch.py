"""The command line: what starts, what its exit code is, and messages instead of stack traces."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.chat_server import chat_server
from tests.conftest import ROOT, command_line, draw_pictures
from vd100k.help import unknown_option
from vd100k.stores.names import dataset_name

Result = subprocess.CompletedProcess[str]


def test_a_command_without_arguments_shows_the_five_most_useful_ones(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, ROOT / "run.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count("  python run.py ") == 5
    assert not list(tmp_path.iterdir())


def test_run_py_starts_itself_again_in_the_environment_beside_it(tmp_path: Path) -> None:
    shutil.copy(ROOT / "run.py", tmp_path)
    bare = tmp_path / "bare/bin/python"
    command = [bare, tmp_path / "run.py", "--help"]
    venv.create(tmp_path / "bare")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "run `make env` first" in done.stderr
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
    (tmp_path / ".venv/bin/python").chmod(0o755)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "vd100k: build a vision-language data set" in done.stdout


def test_the_installed_command_finds_its_configuration(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from vd100k.launch import main; sys.exit(main())",
            "stage=render",
            "dry_run=true",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "draw" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_a_run_with_its_number(tmp_path: Path, number: signal.Signals) -> None:
    draw_pictures(tmp_path / "p", 1)
    with chat_server(lambda n, body: time.sleep(2) or "a") as server:
        api = ["hardware=api", "model=gpt-4o", f"hardware.urls=[{server.url}]", "model.api_key_env=null"]
        command = command_line("stage=generate", "images=p", *api, "stage.check=false")
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            while not server.requests:
                time.sleep(0.05)
            process.send_signal(number)
            assert process.wait(timeout=60) == 128 + number


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
        ("shards/0001.tar", "0001"),
        ("shards/train-*.tar", "shards"),
        ("a/b.parquet/image", "b"),
        ("s3://bucket/photos/", "photos"),
        ("s3://bucket", "bucket"),
    ],
)
def test_a_data_set_is_named_after_its_folder(path: str | int | None, name: str | None) -> None:
    assert dataset_name(path) == name


def test_a_dry_run_plans_the_whole_demo_and_writes_nothing(vd100k: Callable[..., Result], tmp_path: Path) -> None:
    shown = vd100k("experiment=demo", "dry_run=true")
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
        (["stage=generate", "images=empty", "sweep=null"], "sweep=None: it has keys of its own"),
        (["stage=generate", "images=empty", "hardware=foo/bar"], "hardware=foo/bar: there is no such option"),
        (["stage=generate", "images=one.png"], "neither a folder of images nor"),
        (["stage=serve", "model=qwen9"], "CONTRIBUTING.md, “Add a model”"),
        (["stage=serve", "model.path=./nothing", "model.build=null"], "the model folder does not exist"),
        (["stage=convert", "dataset=d"], "there are no such rows"),
        (["stage=finetune", "dataset=d"], "the training file does not exist"),
        (["stage=export", "dataset=d"], "the adapter does not exist"),
        (["stage=serve", "dataset=d", "weights=merged"], "the exported model is missing"),
        (["stage=serve", "model=tiny-student", "hardware=m2-ultra"], "pip install mlx-vlm"),
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


@pytest.mark.parametrize(
    "overrides",
    [
        *([f"{group}=null", "stage=generate", "images=p"] for group in ("model", "hardware", "task", "format")),
        ["stage=null"],
        ["stage="],
        ["experiment=null"],
        ["model@teacher.model=null", "stage=generate", "images=p"],
        ["stage=generate", "images=p", "engine@hardware.engine=null"],
        *([f"{part}=null", "stage=render"] for part in ("sweep", "teacher", "paths", "served_names")),
        ["stage=pipeline", "images=p", "stage.generate=null"],
        ["stage=generate", "images=p", "stage.name=null"],
        ["stage=generate", "images=p", "stage.name=nothing"],
        ["stage=generate", "images=p", "task.sampling=null"],
        ["stage=render", "output_dir="],
        ["stage=render", "output_dir=null"],
        ["stage=render", "output_dir=file"],
        ["stage=render", "output_dir=/proc/nowhere"],
        ["stage=report", "output_dir=/proc/nowhere"],
        ["-m", "stage=render", "output_dir=file", "seed=1,2"],
        ["-m", "stage=render", "output_dir=", "seed=1,2"],
        ["stage=report", "run=broken"],
        ["stage=compare", "runs=[broken,broken]"],
        ["stage=report", "run=deep"],
        ["stage=compare", "runs=[deep,deep]"],
        ["stage=compare", "runs=[lists,lists]"],
        ["stage=report", "run=lists"],
    ],
    ids=" ".join,
)
def test_a_missing_choice_folder_or_summary_is_one_message(
    vd100k: Callable[..., Result], tmp_path: Path, overrides: list[str]
) -> None:
    (tmp_path / "file").touch()
    for name, content in (
        ("broken", "{"),
        ("deep", "[" * 9000),
        ("lists", '{"stage": [], "status": [], "outputs": []}'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(content)
    done = vd100k(*overrides)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert 'File "' not in done.stderr
    assert len(done.stderr.strip().splitlines()) < 12, done.stderr
    assert all(len(line) < 1000 for line in done.stderr.splitlines()[1:])
    assert not (tmp_path / "None").exists()


@pytest.mark.parametrize(
    ("package", "overrides"),
    [
        ("aiohttp", ["stage=generate", "images=p", "hardware=api", "hardware.urls=[http://127.0.0.1:9/v1]"]),
        ("xxhash", ["stage=convert", "dataset=d"]),
        ("datasets", ["stage=convert", "dataset=d", "stage.source=p"]),
    ],
)
def test_a_package_that_is_missing_is_one_message(tmp_path: Path, package: str, overrides: list[str]) -> None:
    draw_pictures(tmp_path / "p", 1)
    (tmp_path / "p/train.parquet").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / f"{package}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{package}'\")")
    path = os.pathsep.join([str(tmp_path / "broken"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command_line(*overrides),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"No module named '{package}'" in done.stderr
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr


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
        ["model=choice(a,b)"],
        ["--config-dir", "folder", "model=mine"],
        ["-cp=/folder", "model=mine"],
        ["model=mine", "hydra.searchpath=[file://folder]"],
    ],
)
def test_other_arguments_are_left_to_hydra(argv: list[str]) -> None:
    assert unknown_option(argv, ROOT / "conf") is None
