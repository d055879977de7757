"""Command lines that cannot work: each gets one message with the remedy, in the words of this program."""

from __future__ import annotations

import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import command_line, draw_pictures

ASKS = "stage=generate images=photos hardware=api model=gpt-4o"
# The command line, and what its message must say.
WRONG = {
    # misspelt keys
    "stage=generate imagess=photos": "did you mean images",
    "stage=generate image=photos": "did you mean images",
    f"{ASKS} stage.max_inflight=8": "did you mean stage.max_in_flight",
    f"{ASKS} max_in_flight=8": "did you mean stage.max_in_flight",
    f"{ASKS} stage.retry_fail=true": "did you mean stage.retry_failed",
    f"{ASKS} task.lang=en": "did you mean task.language",
    f"{ASKS} promt=Hello": "did you mean task.prompt",
    f"{ASKS} model.max_pixel=3": "did you mean model.max_pixels",
    f"{ASKS} modell.max_pixels=3": "did you mean model.max_pixels",
    f"{ASKS} model.api_key=secret": "did you mean model.api_key_env",
    f"{ASKS} datset=x": "did you mean dataset",
    f"{ASKS} outputdir=x": "did you mean output_dir",
    f"{ASKS} hardware.url=http://x": "did you mean hardware.urls",
    f"{ASKS} ++limt=3": "did you mean limit",
    f"{ASKS} +foo=3": "foo is not a key",
    "stage=finetune dataset=x stage.args.lora_rnk=4": "write +stage.args.lora_rnk=",
    "stage=finetune dataset=x stage.lora_rank=4": "did you mean stage.args.lora_rank",
    "stage=finetune dataset=x lora_rank=4": "lora_rank",
    f"{ASKS} stage.method=dpo": "but of stage=finetune",
    f"{ASKS} teacher.modell.name=x": "teacher",
    "stage=serve 'hardware.engine.env={A: 1}'": "write '+hardware.engine.env={A: 1}'",
    "stage=serve 'task.sampling={top_k: 1}'": "write '+task.sampling={top_k: 1}'",
    # misspelt groups and options
    "hardwar=cpu stage=serve": "did you mean hardware",
    "stage=generat images=photos": "Did you mean generate",
    "stage=train dataset=x": "Available: ",
    "stage=generate images=photos model=gpt4o": "Did you mean gpt-4o",
    "stage=serve model=qwen2vl-7b": "Did you mean qwen2-vl-7b",
    "stage=serve hardware=8xh100": "create conf/hardware/8xh100.yaml",
    "stage=serve hardware=T4x4": "Did you mean t4x4",
    "stage=convert dataset=x format=sharegtp": "Did you mean sharegpt",
    f"{ASKS} task=detail": "Did you mean details",
    "experiment=demos": "Did you mean demo",
    "experiment=gpt_distill images=photos": "Did you mean gpt-distill",
    "stage=serve engine@hardware.engine=vlm": "Did you mean vllm",
    "stage=serve engine=vllm": "engine@hardware.engine",
    f"{ASKS} tracking=wandbb": "Did you mean wandb",
    "stage= images=photos": "choose an option",
    # words and flags
    "generate images=photos": "stage=generate",
    "stage generate images=photos": "stage",
    "serve": "stage=serve",
    "demo": "experiment=demo",
    "--dry-run stage=serve": "write dry_run=true",
    "--images photos stage=generate": "--images photos: settings have no leading dash: write images=photos",
    "--max-in-flight 3 stage=generate": "write stage.max_in_flight=3",
    "--no-such-flag stage=serve": "there is no such flag",
    "-images=photos stage=generate": "-images=photos: settings have no leading dash: write images=photos",
    "-images photos stage=generate": "-images photos: settings have no leading dash: write images=photos",
    "-stage=generate images=photos": "no leading dash: write stage=generate",
    "-model=gpt-4o stage=serve": "write model=gpt-4o",
    "--stage=generate": "write stage=generate",
    "--cfg all-of-it stage=serve": "cannot be 'all-of-it': choose one of 'job', 'hydra', 'all'",
    "limit=3": "stage=",
    "dry_run=true": "experiment=",
    "images=photos": "stage=",
    # values
    f"{ASKS} limit=abc": "limit='abc'",
    f"{ASKS} limit=-1": "limit=-1",
    f"{ASKS} limit=1,2": "add -m",
    f"{ASKS} stage.max_in_flight=0": "stage.max_in_flight=0",
    f"{ASKS} stage.check=maybe": "stage.check='maybe'",
    f"{ASKS} task.language=fr": "task.language=fr",
    f"{ASKS} hardware.urls=http://127.0.0.1:1/v1": "'hardware.urls=[http://127.0.0.1:1/v1]'",
    f"{ASKS} 'hardware.urls=[127.0.0.1:1]'": "http://HOST:PORT/v1",
    f"{ASKS} shard=5/4": "from 1 to 4",
    f"{ASKS} cluster.drivers=2": "set cluster=ray",
    f"{ASKS} cluster=ray cluster.drivers=2 shard=1/2": "remove shard",
    "stage=evaluate cluster=ray cluster.drivers=2": "cluster.drivers=2 is for stage=generate, alone or in a pipeline",
    f"{ASKS} stage.if_changed=replace": "'refuse' or 'set_aside'",
    f"{ASKS} dataset=../x": "without /",
    f"{ASKS} weights=tuned": "'base', 'merged' or 'adapter'",
    f"{ASKS} model=null": "choose an option",
    f"{ASKS} task.sampling=3": "write 'task.sampling={temperature: 0.5}', or one entry: task.sampling.temperature=0.5",
    f"{ASKS} model.price=3": "this is a map: write 'model.price={prompt: 2.5, completion: 10}'",
    "stage=generate images=/no/such/folder hardware=api model=gpt-4o": "no such folder",
    "stage=generate hardware=api model=gpt-4o": "set images=FOLDER",
    "stage=compare": "runs",
    # quoting and syntax
    f"{ASKS} 'model.price={{prompt: 2.5'": "a map is written in braces: 'model.price={prompt: 2.5, completion: 10}'",
    f"{ASKS} 'hardware.urls=[http://127.0.0.1:1/v1'": "a list is written in brackets: 'hardware.urls=[A,B]'",
    f"{ASKS} =photos": "NAME=VALUE",
    f"{ASKS} ~model": "choose an option with model=OPTION",
    f"{ASKS} ~images": "images",
    "stage=serve hardware.host=0.0.0.0 model=qwen2-vl-2b hardware=single-gpu": "api_key_env",
    f"{ASKS} 'images=${{'": r"""put a text in quotes, inside those of the shell: 'images="\${"'""",
    f"{ASKS} 'images=${{nothing}}'": r"""no key nothing: insert an existing key (--cfg job lists them), """
    r"""or take the text as it is: 'images="\${nothing}"'""",
    f"{ASKS} 'images=${{oc.env:NO_SUCH}}'": "images=${oc.env:NO_SUCH}: the environment variable NO_SUCH is not set",
    f"{ASKS} 'images=${{nothing:3}}'": "there is none called nothing",
    f"{ASKS} 'output_dir=${{nothing}}'": "there is no key nothing",
}
HYDRAS_OWN = re.compile(
    r"Traceback|Warning|To append|hydra\.|hydra\.cc|Could not override|Error executing job|struct|full_key"
    r"|HYDRA_FULL_ERROR|LexerNo|no viable|Error merging"
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """What each command line ends with; two run at a time."""
    folder: Path = tmp_path_factory.mktemp("wrong")
    draw_pictures(folder / "photos", 1)

    def answer(line: str) -> subprocess.CompletedProcess[str]:
        command = command_line(*shlex.split(line))
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(WRONG, pool.map(answer, WRONG), strict=True))


def test_there_are_at_least_60_of_them() -> None:
    assert len(WRONG) >= 60


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_line_is_answered_with_its_remedy(
    answers: dict[str, subprocess.CompletedProcess[str]], line: str
) -> None:
    done = answers[line]
    assert done.returncode == 1, done.stdout
    assert WRONG[line] in done.stderr
    assert not HYDRAS_OWN.search(done.stderr), done.stderr
    assert len(done.stderr.splitlines()) < 20
