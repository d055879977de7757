"""The parsers of the real engines accept every command line that we build, so a renamed flag is noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.conftest import needs_nginx
from tests.unit.config.test_parse import impossible, options
from vd100k.config.run import Run
from vd100k.engines import commands
from vd100k.engines.serving.nginx import nginx_files

pytestmark = pytest.mark.engine

VLLM = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
for argv in json.load(sys.stdin):
    parser.parse_args(argv)
    print("read")
"""
SWIFT = """
import json, sys
from transformers import HfArgumentParser
from swift.arguments import DeployArguments, ExportArguments, RLHFArguments, SftArguments
kinds = {"sft": SftArguments, "rlhf": RLHFArguments, "export": ExportArguments, "deploy": DeployArguments}
parsers = {name: HfArgumentParser(kind) for name, kind in kinds.items()}
for name, *argv in json.load(sys.stdin):
    parsers[name].parse_args(argv)
    print("read")
"""


def read_all(program: str, argvs: list[list[str]]) -> None:
    """Run ``program``, which parses each command line of ``argvs``; fails unless it accepts all of them."""
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(argvs), capture_output=True, text=True, check=False
    )
    assert done.stdout.count("read") == len(argvs), done.stderr[-2000:]


def test_vllm_accepts_our_arguments(parsed: Callable[..., Run]) -> None:
    argvs = []
    for hardware in ("cpu", "single-gpu", "t4x4"):
        for model in set(options("model")) - {"hf"}:  # which is any model
            if not impossible(hardware, model, "serve"):
                run = parsed(f"hardware={hardware}", f"model={model}", "stage=serve")
                argvs += [command.argv[3:] for command in commands.replicas(run)]
    argvs += [commands.replicas(parsed("stage=serve", "dataset=photos", "weights=adapter"))[0].argv[3:]]
    assert len(argvs) > 20
    read_all(VLLM, argvs)


def test_vllm_accepts_the_commands_of_machines_that_share_a_replica(parsed: Callable[..., Run]) -> None:
    machines = ["cluster=ray", "cluster.nodes=2", "cluster.nodes_per_replica=2", "model.api_key_env=FLEET_KEY"]
    run = parsed("stage=serve", "model=qwen2.5-vl-72b", "hardware=t4x4", "hardware.replicas=1", *machines)
    first, other = (command.argv for command in commands.shared_replica(run, "10.0.0.1"))
    assert first[:4] == other[:4] == [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve"]
    assert [argv[argv.index("--node-rank") + 1] for argv in (first, other)] == ["0", "1"]
    assert "--headless" in set(other) - set(first)
    read_all(VLLM, [first[4:], other[4:]])


def test_swift_accepts_our_arguments(parsed: Callable[..., Run]) -> None:
    argvs = []
    large = ["experiment=manifest-ocr", "images=photos", "hardware=single-gpu", "model=qwen2.5-vl"]
    pairs = ["images=photos", "answers=a", "rejected=b", "model=qwen2-vl-7b", "hardware=single-gpu"]
    for overrides in (["experiment=demo"], ["experiment=gpt-distill", "images=photos"], large, pairs):
        tune = parsed(*overrides, "stage=finetune", f"stage.method={'dpo' if overrides is pairs else 'sft'}").stage
        merge = parsed(*overrides, "stage=export").stage
        argvs += [commands.train(tune, Path("c")).argv[3:], commands.export(merge, Path("m")).argv[3:]]
    swift = ["stage=serve", "engine@hardware.engine=swift"]
    for serve in (parsed(*swift), parsed(*swift, "dataset=photos", "weights=adapter")):
        argvs += [["deploy", *command.argv[3:]] for command in commands.replicas(serve)]
    read_all(SWIFT, argvs)


@needs_nginx
@pytest.mark.parametrize("more", [[], ["hardware.replica_weights=[2,1,1,1]", "hardware.affinity_header=X-Image-Key"]])
def test_nginx_accepts_our_configuration(parsed: Callable[..., Run], tmp_path: Path, more: list[str]) -> None:
    run = parsed("hardware=t4x4", "model=qwen2-vl-2b", "stage=serve", *more)
    tmp_path = tmp_path / "with a space"
    tmp_path.mkdir()
    for name, text in nginx_files(run, tmp_path).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["nginx", "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
