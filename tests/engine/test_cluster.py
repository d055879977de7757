"""Several machines: replicas are placed, lost and used again, and no answer is lost or asked twice.

The machines are nodes of a Ray cluster in network namespaces with GPUs that Ray only counts; the engine is the
benchmarks' server. ``tests/engine/test_cluster_engines.py`` is the same story with vLLM.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import LIGHT, command_line, draw_pictures, free_ports
from tests.engine.conftest import rows, summary
from tests.engine.nodes import Nodes, elsewhere, needs_namespaces, until

pytestmark = [pytest.mark.engine, needs_namespaces()]
NODES, GPUS = 4, 4
LIGHT_NODE = ["engine@hardware.engine=light-node", "model.api_key_env=FLEET_KEY"]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes(NODES, GPUS) as started:
        yield started


class Command:
    """A command that uses the nodes, with its output so far in a file."""

    def __init__(self, nodes: Nodes, folder: Path, *overrides: str) -> None:
        cluster = ["cluster=ray", f"cluster.address={nodes.address}", "cluster.wait_s=20"]
        machine = ["hardware=t4x4", "hardware.preflight=false", f"hardware.port={free_ports(20)}", *LIGHT_NODE]
        argv = command_line(*LIGHT[:2], *machine, *cluster, *overrides)
        self.log = folder / f"{len(list(folder.glob('*.log')))}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                argv, cwd=folder, env=nodes.environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def says(self, text: str, times: int = 1) -> None:
        """Wait until the output contains the text so many times."""

        def said() -> bool:
            assert self.process.poll() is None or self.output.count(text) >= times, self.output
            return self.output.count(text) >= times

        until(said)


def programs(nodes: Nodes) -> list[psutil.Process]:
    """The servers that run on the nodes."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            mine = process.environ().get("LIGHT_API_KEY") == nodes.environment["FLEET_KEY"]
            found += [process] if mine and "benchmarks.server" in line and "guard.py" not in " ".join(line) else []
    return found


def placed(nodes: Nodes) -> list[tuple[str, str]]:
    """The address and the device of each server."""
    return [
        (p.cmdline()[p.cmdline().index("--host") + 1], p.environ()["CUDA_VISIBLE_DEVICES"]) for p in programs(nodes)
    ]


def test_each_machine_gets_its_replicas_and_each_replica_its_devices(nodes: Nodes, tmp_path: Path) -> None:
    serving = Command(nodes, tmp_path, "stage=serve", "cluster.nodes=4")
    serving.says("Ctrl-C stops it")
    found = placed(nodes)
    wanted = [(nodes.address_of(node), str(gpu)) for node in range(NODES) for gpu in range(GPUS)]
    assert sorted(found) == wanted, serving.output
    [server] = (tmp_path / "outputs/servers").glob("*.json")
    assert Counter(one["state"] for one in json.loads(server.read_text())["programs"]) == {"ready": NODES * GPUS + 1}
    serving.process.send_signal(signal.SIGINT)
    assert serving.process.wait(30) == 0, serving.output
    assert not programs(nodes)


def test_a_replica_of_two_devices_gets_two_and_another_machine_stops_all(nodes: Nodes, tmp_path: Path) -> None:
    settings = ["hardware.replicas=2", "hardware.gpus_per_replica=2", "cluster.nodes=4"]
    serving = Command(nodes, tmp_path, "stage=serve", *settings)
    serving.says("Ctrl-C stops it")
    assert Counter(devices for _, devices in placed(nodes)) == {"0,1": NODES, "2,3": NODES}

    def asked(action: str) -> str:
        command = elsewhere(command_line("stage=serve", f"stage.action={action}"))
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    shown = asked("status")
    assert f"process {serving.process.pid} on {platform.node()}" in shown
    assert all(f"ready  http://{nodes.address_of(node)}:" in shown for node in range(NODES)), shown
    assert asked("logs").count("== machine") == 2 * NODES
    assert "Stopped tiny-student" in asked("stop")
    assert serving.process.wait(5) == 0
    assert "elsewhere asked this server to stop" in serving.output
    assert not programs(nodes)
    assert not list((tmp_path / "outputs/servers").iterdir())


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["cluster.nodes=5"],
            "5 machines with 1 CPU, 4 GPU each are needed for hardware=t4x4, but do not exist. 4 of the",
        ),
        (["hardware.replicas=8"], "4 machines with 1 CPU, 8 GPU each are needed"),
        (["+cluster.resources.fast_disk=1"], "1 fast_disk each are needed"),
        (["cluster.address=127.0.0.1:9"], "cluster.address=127.0.0.1:9: no cluster answers there"),
    ],
)
def test_what_the_cluster_does_not_have_is_refused(
    nodes: Nodes, tmp_path: Path, overrides: list[str], told: str
) -> None:
    refused = Command(nodes, tmp_path, "stage=serve", "cluster.nodes=4", "cluster.wait_s=1", *overrides)
    assert refused.process.wait(60) == 1
    assert told in refused.output
    assert "Traceback" not in refused.output
    assert not programs(nodes)


def test_a_replica_and_a_machine_are_lost_while_images_are_asked_about(nodes: Nodes, tmp_path: Path) -> None:
    draw_pictures(tmp_path / "images", 600)
    slow = "hardware.engine.args.latency=0.4"
    asking = Command(
        nodes, tmp_path, "stage=generate", "images=images", "cluster.nodes=2", slow, "stage.max_in_flight=16"
    )
    ledger = tmp_path / "outputs/data/images/details/tiny-student.jsonl"
    until(lambda: ledger.exists() and ledger.read_bytes().count(b"\n") > 30)
    victim = programs(nodes)[0]
    victim.kill()
    lost = next(number for number in range(NODES) if nodes.address_of(number) in asking.output)
    nodes.kill(lost)
    asking.says("The machine was lost")
    restarted = nodes.start(lost)
    assert asking.process.wait(300) == 0, asking.output
    restarted.wait(60)
    answered = rows(ledger)
    assert len({row["id"] for row in answered}) == len(answered) == 600
    assert summary(tmp_path)["counts"]["failed"] == 0
    assert not programs(nodes)


def test_nothing_is_left_of_a_run_that_is_killed(nodes: Nodes, tmp_path: Path) -> None:
    serving = Command(nodes, tmp_path, "stage=serve", "cluster.nodes=4")
    serving.says("Ctrl-C stops it")
    os.killpg(serving.process.pid, signal.SIGKILL)
    until(lambda: not programs(nodes), 30)


def test_a_lost_head_ends_the_run_with_a_message_and_a_vanished_cluster_holds_up_no_ctrl_c(
    nodes: Nodes, tmp_path: Path
) -> None:
    """The last test that uses these nodes."""
    serving = Command(nodes, tmp_path, "stage=serve", "cluster.nodes=1")
    serving.says("Ctrl-C stops it")
    (tmp_path / "other").mkdir()
    stopped = Command(nodes, tmp_path / "other", "stage=serve", "cluster.nodes=3")
    stopped.says("Ctrl-C stops it")
    for number in range(NODES):
        if nodes.address_of(number) in stopped.output:
            nodes.kill(number)
    nodes.kill_head()
    stopped.process.send_signal(signal.SIGINT)
    assert stopped.process.wait(20) == 0, stopped.output
    assert serving.process.wait(120) == 1
    assert "The head of the cluster at" in serving.output
    until(lambda: not programs(nodes), 90)


def test_a_cluster_without_a_token_is_refused(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not re.match("RAY_", name)}
    done = subprocess.run(
        command_line(*LIGHT[:2], "stage=serve", "cluster=ray", *LIGHT_NODE),
        cwd=tmp_path,
        env={**environment, "FLEET_KEY": "k"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "RAY_AUTH_MODE=token" in done.stdout + done.stderr
