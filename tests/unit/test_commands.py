"""Configuration -> command lines: the golden ones of the seeds' systems, and flags in general."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from vd100k.commands import flags, replicas
from vd100k.config import Run

GOLDEN = {
    "serve-t4x4": ["stage=serve", "hardware=t4x4", "model=qwen2-vl-2b"],
    "serve-single-gpu": ["stage=serve", "hardware=single-gpu", "model=qwen2.5-vl-7b"],
    "finetune-gpt-distill": ["stage=finetune", "experiment=gpt-distill", "images=photos"],
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(vd100k: Callable[..., subprocess.CompletedProcess[str]], name: str) -> None:
    shown = vd100k(*GOLDEN[name], "dry_run=true")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == (ROOT / "tests" / "golden" / f"{name}.txt").read_text(encoding="utf-8")


def test_replicas_share_out_the_gpus(parsed: Callable[..., Run]) -> None:
    commands = replicas(parsed("stage=serve", "hardware=t4x4", "model=qwen2-vl-7b"))
    assert [command.env["CUDA_VISIBLE_DEVICES"] for command in commands] == ["0,1", "2,3"]
    for command, port in zip(commands, ("8001", "8002"), strict=True):
        assert command.argv[-2:] == ["--port", port]
        assert command.argv[command.argv.index("--tensor-parallel-size") + 1] == "2"


def test_devices_are_among_those_we_were_left(parsed: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    commands = replicas(parsed("stage=serve", "hardware=t4x4", "model=qwen2-vl-7b"))
    assert [command.env["CUDA_VISIBLE_DEVICES"] for command in commands] == ["4,5", "6,7"]


def test_engine_options_are_free(parsed: Callable[..., Run]) -> None:
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


@pytest.mark.parametrize(
    ("style", "args", "expected"),
    [
        ("kebab", {"enforce_eager": True, "a_b": False}, ["--enforce-eager", "--no-a-b"]),
        ("snake", {"merge_lora": True, "a_b": False}, ["--merge_lora", "true", "--a_b", "false"]),
        ("snake", {"gone": None, "names": ["小黄", "Xiao Huang"]}, ["--names", "小黄", "Xiao Huang"]),
        ("kebab", {"limit": {"image": 2}}, ["--limit", '{"image": 2}']),
    ],
)
def test_flags(style: str, args: dict[str, object], expected: list[str]) -> None:
    assert flags(args, style) == expected


keys = st.from_regex(r"[a-z]+(_[a-z]+)*", fullmatch=True)
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(min_size=1), st.dictionaries(st.text(), st.integers())
)


@given(st.dictionaries(keys, values))
def test_each_option_is_one_flag_with_its_value(args: dict[str, object]) -> None:
    argv = flags(args, "snake")
    read = dict(zip(argv[::2], argv[1::2], strict=True))
    assert set(read) == {f"--{key}" for key, value in args.items() if value is not None}
    for key, value in args.items():
        if isinstance(value, dict):
            assert json.loads(read[f"--{key}"]) == value
        elif isinstance(value, str):
            assert read[f"--{key}"] == value
