"""A sweep over machines: each job runs where its GPUs are free, at ports of its own, and what fails fails alone."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from tests.conftest import LIGHT, command_line, draw_pictures, sweep_table
from tests.engine.conftest import rows
from tests.engine.nodes import Nodes, needs_namespaces, until

pytestmark = [pytest.mark.engine, needs_namespaces()]
KEY = "a key that no machine of the cluster has"


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes(2, gpus=2) as started:
        yield started


def sweep(nodes: Nodes, folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """A sweep over data sets, whose jobs ask a server with one GPU each about the same images."""
    draw_pictures(folder / "images", 12)
    server = ["engine@hardware.engine=light-node", "hardware=t4x4", "hardware.replicas=1", "hardware.preflight=false"]
    argv = command_line(
        *(*LIGHT[:2], "-m", "hydra/launcher=ray", f"cluster.address={nodes.address}", *server),
        *("stage=generate", "images=images", "model.api_key_env=SWEEP_KEY", *overrides),
    )
    return subprocess.Popen(
        argv,
        cwd=folder,
        env=nodes.environment | {"SWEEP_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left(folder: Path) -> list[psutil.Process]:
    """The jobs and the servers that run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            is_job = any("hydra.run.dir=" in word for word in words) and process.cwd() == str(folder)
            found += [process] if is_job or process.environ().get("LIGHT_API_KEY") == KEY else []
    return found


def test_jobs_run_on_all_machines_and_one_that_fails_ends_no_other(nodes: Nodes, tmp_path: Path) -> None:
    slow = "hardware.engine.args.latency=0.2"
    running = sweep(nodes, tmp_path, "dataset=one,two,three,four/five,six", "sweep.metric=rows", slow)
    output, _ = running.communicate(timeout=150)
    assert running.returncode == 1, output
    assert all(f"runs on {nodes.address_of(node)}" in output for node in range(2)), output
    table = sweep_table(tmp_path)
    assert [(row["status"], row["rows"]) for row in table] == [("ok", "12")] * 4 + [("failed", "")]
    assert table[-1]["dataset"] == "four/five"
    assert "becomes the name of a file or folder" in table[-1]["reason"]
    assert "4 of 5 jobs finished" in output
    assert output.count("Traceback") == 0, output
    folders = [tmp_path / row["folder"] for row in table[:4]]
    used = [OmegaConf.load(folder / ".hydra/config.yaml").hardware.port for folder in folders]
    assert len(set(used)) == 4
    assert all((folder / "job.log").exists() for folder in folders)
    assert not left(tmp_path)


def test_a_job_whose_machine_is_lost_continues_on_another(nodes: Nodes, tmp_path: Path) -> None:
    slow = ["hardware.engine.args.latency=1", "stage.max_in_flight=2", "hydra.launcher.locks_s=1"]
    running = sweep(nodes, tmp_path, "dataset=one,two", *slow)
    assert running.stdout
    lines = list(itertools.islice((line for line in running.stdout if "runs on" in line), 2))
    there = next(line for line in lines if nodes.address_of(1) in line)
    until(lambda: len(list(tmp_path.glob("outputs/data/*/details/tiny-student.jsonl"))) == 2, 60)
    nodes.kill(1)
    output, _ = running.communicate(timeout=120)
    nodes.start(1).wait(60)
    assert running.returncode == 0, output
    assert f"{there.partition(' runs on')[0]}: {nodes.address_of(1)} was lost" in output, output
    assert output.count(f"runs on {nodes.address_of(0)}") == 1
    for rows_file in tmp_path.glob("outputs/data/*/details/tiny-student.jsonl"):
        ids = [row["id"] for row in rows(rows_file)]
        assert len(set(ids)) == len(ids) == 12
    assert not left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_sweep_that_ends_early(nodes: Nodes, tmp_path: Path, number: signal.Signals) -> None:
    running = sweep(nodes, tmp_path, "dataset=one,two,three,four,five", "hardware.engine.args.latency=20")
    assert running.stdout
    for _ in range(4):  # the fifth has no GPU yet
        assert any("runs on" in line for line in running.stdout)
    until(lambda: len(left(tmp_path)) > 8)
    os.kill(running.pid, number)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), output
    until(lambda: not left(tmp_path), 30)


def test_a_job_that_fits_on_no_machine_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    running = sweep(nodes, tmp_path, "dataset=one,two", "hardware.replicas=3", "cluster.wait_s=1")
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "needs a machine with 1 CPU, 3 GPU, and the cluster has none" in output
    assert f"{nodes.address_of(1)}: 4 CPU, 2 GPU" in output


def test_a_dry_run_shows_the_command_of_each_job(tmp_path: Path) -> None:
    server = ["hardware=t4x4", "model=qwen2-vl-2b", "hardware.replicas=2", "dry_run=true"]
    argv = command_line("-m", "hydra/launcher=ray", "stage=generate", "images=images", "limit=1,2", *server)
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "job 1 on a machine of the cluster with 1 CPU, 2 GPU:" in done.stdout
    assert "hardware.port=PORT" in done.stdout
