"""Command lines from the configuration: complete ones against golden files, and the conversion of options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from vd100k.config.run import Run
from vd100k.config.stages import Export, Finetune
from vd100k.engines.commands import Command, environment, export, flags, replicas, train
from vd100k.engines.process import Child
from vd100k.engines.serving.nginx import nginx_files
from vd100k.errors import ConfigError
from vd100k.io.redaction import names_secret

GOLDEN = {
    "serve-t4x4": ["stage=serve", "hardware=t4x4", "model=qwen2-vl-2b"],
    "serve-single-gpu": ["stage=serve", "hardware=single-gpu", "model=qwen2.5-vl-7b"],
    "serve-trtllm": [
        *("stage=serve", "hardware=t4x4", "engine@hardware.engine=trtllm", "model=qwen2-vl-7b"),
        "hardware.balancer=none",
    ],
    "serve-trtllm-qwen-vl": [
        *("stage=serve", "hardware=single-gpu", "engine@hardware.engine=trtllm-qwen-vl", "model=qwen-vl-chat"),
        "model.path=/tmp/Qwen-VL-Chat",
    ],
    "finetune-gpt-distill": ["stage=finetune", "experiment=gpt-distill", "images=photos"],
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_dry_run_prints_the_golden_file(vd100k: Callable[..., subprocess.CompletedProcess[str]], name: str) -> None:
    shown = vd100k(*GOLDEN[name], "dry_run=true")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == (ROOT / "tests" / "golden" / f"{name}.txt").read_text(encoding="utf-8")


def test_each_replica_gets_its_own_gpus(parsed: Callable[..., Run]) -> None:
    commands = replicas(parsed("stage=serve", "hardware=t4x4", "model=qwen2-vl-7b"))
    assert [command.env["CUDA_VISIBLE_DEVICES"] for command in commands] == ["0,1", "2,3"]
    for command, port in zip(commands, ("8001", "8002"), strict=True):
        assert command.argv[-2:] == ["--port", port]
        assert command.argv[command.argv.index("--tensor-parallel-size") + 1] == "2"


def test_replicas_use_only_visible_devices(parsed: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    commands = replicas(parsed("stage=serve", "hardware=t4x4", "model=qwen2-vl-7b"))
    assert [command.env["CUDA_VISIBLE_DEVICES"] for command in commands] == ["4,5", "6,7"]


def test_any_engine_option_can_be_added_or_removed(parsed: Callable[..., Run]) -> None:
    run = parsed(
        "stage=serve",
        "hardware=single-gpu",
        "model=qwen2-vl-2b",
        "+hardware.engine.args.max_num_seqs=64",
        "hardware.engine.args.dtype=null",
    )
    argv = replicas(run)[0].argv
    assert argv[argv.index("--max-num-seqs") + 1] == "64"
    assert "--dtype" not in argv


def test_nginx_balances_by_load_by_weight_or_by_header(parsed: Callable[..., Run]) -> None:
    fleet = ["stage=serve", "hardware=t4x4", "model=qwen2-vl-2b", "hardware.replicas=2"]
    even = nginx_files(parsed(*fleet), Path("RUN"))["vllm.conf"]
    assert "least_conn;" in even
    assert "hash" not in even
    run = parsed(*fleet, "hardware.replica_weights=[2,1]", "hardware.affinity_header=X-Image-Key")
    uneven = nginx_files(run, Path("RUN"))["vllm.conf"]
    assert "server 127.0.0.1:8001 weight=2 " in uneven
    assert "server 127.0.0.1:8002 weight=1 " in uneven
    assert "map $http_x_image_key $vllm_affinity" in uneven
    assert "least_conn" not in uneven


def test_only_nginx_listens_on_the_network_and_the_key_is_never_printed(
    vd100k: Callable[..., subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", "sesame-4711")
    monkeypatch.setenv("VLLM_API_KEY", "sesame-4712")
    shown = vd100k(
        *("stage=serve", "hardware=single-gpu", "hardware.host=0.0.0.0", "hardware.balancer=nginx"),
        *("model=qwen2-vl-2b", "model.api_key_env=SERVER_KEY", "dry_run=true"),
    )
    assert shown.returncode == 0, shown.stderr
    assert "sesame" not in shown.stdout
    assert "--host 127.0.0.1 --port 8001" in shown.stdout
    assert "listen 0.0.0.0:8000;" in shown.stdout


def test_an_adapter_is_served_together_with_its_base(parsed: Callable[..., Run]) -> None:
    argv = replicas(parsed("stage=serve", "hardware=cpu", "dataset=photos", "weights=adapter"))[0].argv
    assert argv[argv.index("--model") + 1] == "outputs/models/tiny-student"
    assert argv[argv.index("--served-model-name") + 1] == "tiny-student"
    name, _, path = argv[argv.index("--lora-modules") + 1].partition("=")
    assert (name, path) == ("tiny-student-tuned", "outputs/models/tiny-student/photos-details-tiny-student/adapter")


def test_lengths_of_tensorrt_engines_are_checked(parsed: Callable[..., Run]) -> None:
    engine = ["stage=serve", "hardware=single-gpu", "engine@hardware.engine=trtllm-qwen-vl", "model=qwen-vl-chat"]
    key = "hardware.engine.args"
    for override, word in (
        (f"{key}.max_multimodal_len=13311", "x 256 = 13312"),
        (f"{key}.max_input_len=6656", "no room for a question"),
        (f"{key}.max_seq_len=30720", "no room for an answer"),
        (f"{key}.max_num_tokens=30719", "is less than hardware.engine.args.max_input_len"),
    ):
        with pytest.raises(ConfigError, match=word):
            parsed(*engine, override)


SECRETS = ["OPENAI_API_KEY", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "VLLM_API_KEY", "DATABASE_URL", "MY_VARIABLE"]
ENGINES = {"vllm": "single-gpu", "vllm-cpu": "cpu", "swift": "cpu", "mlx": "m2-ultra"}


def seen_by(command: Command, log: Path) -> dict[str, str]:
    """The environment that a child started like this command has."""
    with Child(
        replace(command, argv=[sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]), log
    ):
        end = time.monotonic() + 20
        while not (log.exists() and log.read_text(encoding="utf-8").endswith("\n")):
            assert time.monotonic() < end
            time.sleep(0.02)
    seen: dict[str, str] = json.loads(log.read_text(encoding="utf-8"))
    return seen


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*SECRETS, "HF_HOME", "HF_TOKEN", "MODELSCOPE_API_TOKEN", "https_proxy", "NCCL_DEBUG"]:
        monkeypatch.setenv(name, "sesame")


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("program", [*ENGINES, "finetune", "export"])
def test_a_program_gets_our_variables_but_no_secret_that_is_not_its_own(
    parsed: Callable[..., Run], tmp_path: Path, program: str
) -> None:
    if program in ENGINES:
        hardware = [f"hardware={ENGINES[program]}", f"engine@hardware.engine={program}"]
        command = replicas(parsed("stage=serve", *hardware, "model=tiny-student"))[0]
    else:
        stage = parsed(f"stage={program}", "dataset=photos").stage
        command = train(stage, tmp_path) if isinstance(stage, Finetune) else export(cast(Export, stage), tmp_path)
    seen = seen_by(command, tmp_path / "log")
    assert not [name for name in SECRETS if name in seen]
    assert seen["PATH"] == os.environ["PATH"]
    assert {"HF_HOME", "HF_TOKEN", "MODELSCOPE_API_TOKEN", "https_proxy", "NCCL_DEBUG"} <= set(seen)
    assert set(command.env.items()) <= set(seen.items())


@pytest.mark.usefixtures("variables")
def test_a_program_without_a_list_gets_only_what_any_program_needs(tmp_path: Path) -> None:
    seen = seen_by(Command(["nginx"]), tmp_path / "log")
    assert seen["PATH"] == os.environ["PATH"]
    assert "sesame" not in seen.values()


@pytest.mark.usefixtures("variables")
def test_users_decide_which_variables_an_engine_gets(parsed: Callable[..., Run], tmp_path: Path) -> None:
    key = "hardware.engine.inherits"
    added = parsed("stage=serve", f"+{key}.MY_VARIABLE=true", f"+{key}.OPENAI_API_KEY=true", f"{key}.HF_TOKEN=null")
    seen = seen_by(replicas(added)[0], tmp_path / "log")
    assert {"MY_VARIABLE", "OPENAI_API_KEY", "HF_HOME"} <= set(seen)
    assert not {"HF_TOKEN", "WANDB_API_KEY"} & set(seen)


names = st.text(alphabet="ABCKEY_TOKENSECRET", min_size=1, max_size=20)


@given(st.dictionaries(names, st.sampled_from(["a", "b"]), max_size=8), st.lists(names, max_size=3))
def test_a_wildcard_never_passes_a_secret_on(variables: dict[str, str], named: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        passed = environment(Command([], inherits=["*", *named]))
    for name in variables:
        assert (name in passed) == (name in named or not names_secret(name))


@pytest.mark.parametrize(
    ("style", "args", "expected"),
    [
        ("kebab", {"enforce_eager": True, "a_b": False}, ["--enforce-eager", "--no-a-b"]),
        ("snake", {"merge_lora": True, "a_b": False}, ["--merge_lora", "true", "--a_b", "false"]),
        ("switch", {"trust_remote_code": True, "a_b": False, "port": 8000}, ["--trust_remote_code", "--port", "8000"]),
        ("snake", {"gone": None, "names": ["小黄", "Xiao Huang"]}, ["--names", "小黄", "Xiao Huang"]),
        ("kebab", {"limit": {"image": 2}}, ["--limit", '{"image": 2}']),
    ],
)
def test_options_become_flags_in_each_style(style: str, args: dict[str, object], expected: list[str]) -> None:
    assert flags(args, style) == expected


keys = st.from_regex(r"[a-z]+(_[a-z]+)*", fullmatch=True)
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(min_size=1), st.dictionaries(st.text(), st.integers())
)


@given(st.dictionaries(keys, values))
def test_each_option_becomes_one_flag_with_its_value(args: dict[str, object]) -> None:
    argv = flags(args, "snake")
    read = dict(zip(argv[::2], argv[1::2], strict=True))
    assert set(read) == {f"--{key}" for key, value in args.items() if value is not None}
    for key, value in args.items():
        if isinstance(value, dict):
            assert json.loads(read[f"--{key}"]) == value
        elif isinstance(value, str):
            assert read[f"--{key}"] == value


@pytest.mark.parametrize(("hardware", "devices"), [("m2-ultra", None), ("cpu", None), ("single-gpu", "0")])
def test_only_machines_with_nvidia_gpus_set_cuda_visible_devices(
    parsed: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, hardware: str, devices: str | None
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    trained = train(parsed("stage=finetune", "dataset=d", f"hardware={hardware}").stage, Path("out"))
    served = replicas(parsed("stage=serve", f"hardware={hardware}"))[0]
    assert trained.env.get("CUDA_VISIBLE_DEVICES") == served.env.get("CUDA_VISIBLE_DEVICES") == devices


def test_a_trained_model_gets_no_name_unless_one_is_set(parsed: Callable[..., Run]) -> None:
    plain = train(parsed("stage=finetune", "dataset=d").stage, Path("out")).argv
    assert not {"--model_name", "--model_author"} & set(plain)
    own = ["+stage.args.model_name=['小红',Hong]", "+stage.args.model_author=['我们',Us]"]
    named = train(parsed("stage=finetune", "dataset=d", *own).stage, Path("out")).argv
    assert named[named.index("--model_name") + 1 :][:2] == ["小红", "Hong"]
