"""Two machines with real engines: vLLM loses a replica and a machine, and ms-swift trains as one machine would."""

from __future__ import annotations

import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import command_line, free_ports
from tests.engine.conftest import Demo, Running, needs_nginx, rows, summary
from tests.engine.nodes import Nodes, needs_namespaces, until
from tests.engine.test_finetune import losses

pytestmark = [pytest.mark.engine, pytest.mark.story, pytest.mark.timeout(1500), needs_namespaces()]
IMAGES, START_S = 200, 400
COMPARED = 16  # steps of two trainings


@needs_nginx
def test_two_machines_lose_a_replica_and_a_machine(
    tmp_path: Path, launch: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    render = command_line("stage=render", f"stage.train={IMAGES}", "stage.heldout=1", "model=tiny-teacher")
    subprocess.run(render, cwd=tmp_path, check=True, capture_output=True)
    # The two machines share the cores of this one, and threads that wait for each other take time from the others.
    single = "+hardware.engine.env.OMP_NUM_THREADS=1"
    model = ["hardware=cpu", "model=tiny-teacher", "task=scene", "model.api_key_env=FLEET_KEY"]
    with Nodes(2, gpus=0) as nodes:
        for name, value in nodes.environment.items():
            monkeypatch.setenv(name, value)
        port = free_ports(4)
        placed = ["cluster=ray", f"cluster.address={nodes.address}", "cluster.nodes=2", f"hardware.port={port}"]
        serving = launch(tmp_path, "stage=serve", *model, *placed, single, f"hardware.start_timeout_s={START_S}")
        said(serving, "Ctrl-C stops it")
        engines = [process for process in psutil.Process().children(recursive=True) if is_engine(process)]
        assert not engines, "the engines are not below this process"

        images, rows_file = next(tmp_path.glob("outputs/images/*/train")), tmp_path / "outputs/data/train/scene"
        url = f"hardware.urls=[http://127.0.0.1:{port}/v1]"
        # Both machines are away for a while, and nginx answers 502: no image gives up before one is back.
        slowly = ["stage.max_in_flight=2", "stage.endpoint_wait_s=400", "stage.max_retries=40"]
        asking = launch(tmp_path, "stage=generate", f"images={images}", *model, "hardware=api", url, *slowly)
        ledger = rows_file / "tiny-teacher.jsonl"
        until(lambda: ledger.exists() and ledger.read_bytes().count(b"\n") > 20, START_S)
        next(process for process in psutil.process_iter() if is_engine(process)).kill()
        until(lambda: ledger.read_bytes().count(b"\n") > 60, START_S)
        nodes.kill(1)
        said(serving, "The machine was lost")
        back = nodes.start(1)
        assert asking.process.wait(START_S) == 0, "".join(asking.lines)
        answered = rows(ledger)
        assert len({row["id"] for row in answered}) == len(answered) == IMAGES
        back.wait(60)

        until(lambda: "of 3 ready" not in status(tmp_path) and "ready" in status(tmp_path), START_S)
        before = served(port)
        again = launch(tmp_path, "stage=generate", f"images={images}", *model, "hardware=api", url, "dataset=again")
        assert again.process.wait(START_S) == 0, "".join(again.lines)
        assert all(now > earlier for now, earlier in zip(served(port), before, strict=True)), "both replicas answer"

        serving.process.send_signal(signal.SIGINT)
        assert serving.process.wait(60) == 0, "".join(serving.lines)
        until(lambda: not any(map(is_engine, psutil.process_iter())), 30)


def said(running: Running, text: str) -> None:
    def found() -> bool:
        assert running.process.poll() is None, "".join(running.lines)
        return any(text in line for line in list(running.lines))

    until(found, START_S)


def is_engine(process: psutil.Process) -> bool:
    """Whether a process is a vLLM server on one of the nodes."""
    try:
        line = process.cmdline()
        return "vllm.entrypoints.openai.api_server" in line and "10." in line[line.index("--host") + 1][:3]
    except (psutil.Error, ValueError):
        return False


def status(folder: Path) -> str:
    done = subprocess.run(
        command_line("stage=serve", "stage.action=status"), cwd=folder, capture_output=True, text=True
    )
    return done.stdout


def served(port: int) -> list[float]:
    """The successful requests of each replica since its start."""
    counts = []
    for number in range(2):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/replicas/{number}/metrics") as reply:
            lines = reply.read().decode().splitlines()
        counts.append(sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:request_success_total")))
    return counts


def test_two_machines_train_the_student_of_the_demo_as_one_and_resume_after_a_rank_was_killed(
    demo: Demo, launch: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen_often = demo.folder, ["stage.args.logging_steps=1", "stage.args.save_steps=10"]
    common = ["experiment=demo", *seen_often, "+stage.args.lora_dropout=0", "stage.args.per_device_train_batch_size=4"]
    # Both see the same eight rows in a step: one process in two parts, two machines one part each.
    alone = launch(folder, "stage=finetune", *common, "stage.args.gradient_accumulation_steps=2", "variant=alone")
    said(alone, f"step {COMPARED}/")
    alone.interrupt()
    (log,) = folder.glob("outputs/models/tiny-student/*-alone/checkpoints-*/logging.jsonl")
    expected = [row["loss"] for row in rows(log) if "loss" in row][:COMPARED]
    with Nodes(2, gpus=0) as nodes:
        for name, value in nodes.environment.items():
            monkeypatch.setenv(name, value)
        placed = ["cluster=ray", f"cluster.address={nodes.address}", "cluster.nodes=2", "variant=two"]
        together = ["stage=finetune", *common, *placed]
        killed = launch(folder, *together)
        said(killed, "step 12/")
        trainers = [process for process in psutil.process_iter() if is_trainer(process)]
        assert {process.environ()["NODE_RANK"] for process in trainers} == {"0", "1"}
        next(process for process in trainers if process.environ()["NODE_RANK"] == "1").kill()
        assert killed.process.wait(60) == 1, "".join(killed.lines)
        assert "the same command resumes from the last checkpoint" in "".join(killed.lines)
        assert not any(map(is_trainer, psutil.process_iter()))
        resumed = launch(folder, *together)
        assert resumed.process.wait(START_S) == 0, "".join(resumed.lines)
        assert any("resuming from" in line for line in resumed.lines)
        assert losses(folder)[:COMPARED] == pytest.approx(expected, abs=1e-4)
    for stage in (["stage=export"], ["stage=evaluate", "stage.sides=[after]"]):
        done = launch(folder, *stage, "experiment=demo", "variant=two", demo.command[1])
        assert done.process.wait(START_S) == 0, "".join(done.lines)
    assert summary(folder)["metrics"]["after"]["exact_match"] >= 0.8


def is_trainer(process: psutil.Process) -> bool:
    """Whether a process is a rank of a training (torchrun's own processes have no local rank)."""
    try:
        return "LOCAL_RANK" in process.environ() and any("sft.py" in one for one in process.cmdline())
    except psutil.Error:
        return False
