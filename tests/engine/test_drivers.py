"""Several drivers on the machines of a cluster: every image once, whatever is killed, and one ledger in the end.

The machines are nodes of a Ray cluster in network namespaces, the model is the benchmarks' server with its faults.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import psutil
import pytest

from benchmarks import faults, server
from tests.conftest import LIGHT, command_line, free_ports
from tests.engine.conftest import rows, summary
from tests.engine.nodes import Nodes, needs_namespaces, until
from tests.object_storage import object_storage

pytestmark = [pytest.mark.engine, needs_namespaces()]
NODES, DRIVERS, IN_FLIGHT = 2, 4, 8
LATENCY_S = 0.1
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
# 5 % of the requests.
FAULTS = {"http-500": 0.02, "http-429": 0.01, "malformed": 0.01, "drop": 0.009, "hang": 0.001}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with Nodes(NODES, 1) as started:
        yield started


class Asking:
    """Commands in a folder, one after another, that ask the server at ``url`` from drivers on the nodes."""

    def __init__(self, nodes: Nodes, folder: Path, url: str, variables: Mapping[str, str] = NO_VARIABLES) -> None:
        self.nodes, self.folder, self.url, self.variables = nodes, folder, url, variables
        self.data = folder / "outputs/data/images/details"
        self.log = folder / "log.txt"

    def start(self, *overrides: str) -> subprocess.Popen[bytes]:
        given = ["images=images", "hardware=api", f"hardware.urls=[{self.url}]", "model=gpt-4o", "model.served_name=m"]
        cluster = ["cluster=ray", f"cluster.address={self.nodes.address}", f"cluster.drivers={DRIVERS}"]
        limits = ["model.api_key_env=null", f"stage.max_in_flight={IN_FLIGHT}", "stage.check=false"]
        argv = command_line("stage=generate", *given, *cluster, *limits, *overrides)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                argv,
                cwd=self.folder,
                env={**self.nodes.environment, **self.variables},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def finish(self, *overrides: str, status: int = 0) -> str:
        """Run a command to its end, and return what it says."""
        before = self.log.stat().st_size if self.log.exists() else 0
        assert self.start(*overrides).wait(300) == status, self.log.read_text()
        return self.log.read_text()[before:]

    def written(self) -> int:
        """The rows in all files, those of slices included."""
        count = 0
        for path in self.data.glob("gpt-4o*.jsonl"):
            if re.fullmatch(r"gpt-4o(\.slice-\d+-of-\d+)?\.jsonl", path.name):
                with contextlib.suppress(FileNotFoundError):  # joined meanwhile
                    count += path.read_bytes().count(b"\n")
        return count

    def books(self) -> tuple[list[str], list[str]]:
        """The ids of the rows and of the failures."""
        failures = rows(self.data / "gpt-4o.failures.jsonl")
        assert all(row["reason"] and row["detail"] for row in failures)
        return [row["id"] for row in rows(self.data / "gpt-4o.jsonl")], [row["id"] for row in failures]


def drivers(nodes: Nodes, number: int) -> list[psutil.Process]:
    """The processes of drivers on a node."""
    found = []
    for process in nodes.inside(number):
        with contextlib.suppress(psutil.Error):
            found += [process] if " ".join(process.cmdline()).startswith("ray::Driver") else []
    return found


def nothing_left(nodes: Nodes) -> None:
    until(lambda: not any(drivers(nodes, number) for number in range(NODES)), 30)


@pytest.fixture
def quick(nodes: Nodes, tmp_path: Path) -> Iterator[Asking]:
    """600 images and a server without faults."""
    faults.draw(tmp_path / "images", 600)
    with server.running("--host", nodes.head, "--latency", "0.05") as url:
        yield Asking(nodes, tmp_path, url)


def test_drivers_read_object_storage_with_the_credentials_of_the_command(nodes: Nodes, tmp_path: Path) -> None:
    faults.draw(tmp_path / "folder", 40)
    with object_storage(tmp_path, nodes.head) as storage, server.running("--host", nodes.head) as url:
        images = storage.upload(tmp_path / "folder", "images")
        asking = Asking(nodes, tmp_path, url, storage.environment)
        asking.finish(f"images={images}")
    answered, failed = asking.books()
    assert sorted(answered) == sorted(path.name for path in (tmp_path / "folder").iterdir())
    assert not failed


def test_all_drivers_ask_and_one_ledger_has_the_answers(quick: Asking) -> None:
    said = quick.finish("stage.max_in_flight=2", "dry_run=true")
    assert "ask from 4 drivers with 1 CPU each" in said
    assert "32 slices of the images" in said
    quick.finish("limit=100")
    said = quick.finish("stage.max_in_flight=2")
    counts = summary(quick.folder)["counts"]
    assert (counts["images"], counts["rows"], counts["reused"], counts["requests"]) == (600, 600, 100, 500)
    answered, failed = quick.books()
    assert sorted(answered) == sorted(path.name for path in (quick.folder / "images").iterdir())
    assert not failed
    assert len(server.seen(quick.url)) == 600
    logs = list(quick.folder.glob("outputs/latest/driver-*.log"))
    assert len(logs) == DRIVERS
    assert all("slice" in log.read_text() for log in logs)
    left = {path.name for path in quick.data.iterdir()}
    assert left == {"gpt-4o.jsonl", "gpt-4o.failures.jsonl", "gpt-4o.settings.json", ".gpt-4o.lock"}
    # Of a rerun, nothing is left to ask but a new image and one that has changed.
    images = quick.folder / "images"
    (images / "000001.png").rename(images / "new.png")
    (images / "000002.png").replace(images / "000003.png")
    quick.finish()
    counts = summary(quick.folder)["counts"]
    assert (counts["rows"], counts["reused"], counts["requests"]) == (599, 597, 2)
    nothing_left(quick.nodes)


def test_ctrl_c_lets_the_requests_in_flight_finish_and_the_next_run_continues(quick: Asking) -> None:
    asking = quick.start("stage.max_in_flight=2")
    until(lambda: quick.written() > 50)
    asking.send_signal(signal.SIGINT)
    assert asking.wait(60) == 130
    assert "requests in flight are finished" in quick.log.read_text()
    counts = summary(quick.folder)["counts"]
    answered, _ = quick.books()
    assert 50 < len(answered) == len(server.seen(quick.url)) == counts["rows"] < 600
    nothing_left(quick.nodes)
    quick.finish("cluster.drivers=2")
    assert len(quick.books()[0]) == len(server.seen(quick.url)) == 600


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["cluster.drivers=9", "cluster.wait_s=1"], "9 drivers with 1 CPU each are needed for cluster.drivers=9, but"),
        (["hardware.urls=[http://127.0.0.1:9/v1]", "stage.check=true", "stage.max_retries=0"], "said by a driver on"),
    ],
)
def test_what_cannot_work_ends_with_one_message(quick: Asking, overrides: list[str], told: str) -> None:
    said = quick.finish(*overrides, status=1)
    assert told in said
    assert "Traceback" not in said
    nothing_left(quick.nodes)


def test_a_server_that_fails_ends_the_run_as_a_whole(nodes: Nodes, tmp_path: Path) -> None:
    faults.draw(tmp_path / "images", 600)
    with server.running("--host", nodes.head, "--http-500", "1") as url:
        asking = Asking(nodes, tmp_path, url)
        said = asking.finish("stage.max_retries=0", "stage.endpoint_wait_s=2", status=1)
        assert "max_failure_rate" in said or "did not answer" in said
        answered, failed = asking.books()
        assert not answered
        assert len(set(failed)) == len(failed)


def test_drivers_ask_the_replicas_that_the_command_starts(nodes: Nodes, tmp_path: Path) -> None:
    faults.draw(tmp_path / "images", 300)
    machine = ["hardware=t4x4", "hardware.replicas=1", "hardware.preflight=false", f"hardware.port={free_ports(4)}"]
    engine = ["engine@hardware.engine=light-node", "model.api_key_env=FLEET_KEY", "stage.max_in_flight=2"]
    cluster = ["cluster=ray", f"cluster.address={nodes.address}", "cluster.nodes=2", "cluster.drivers=2"]
    argv = command_line(*LIGHT[:2], "stage=generate", "images=images", *machine, *engine, *cluster)
    done = subprocess.run(argv, cwd=tmp_path, env=nodes.environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert summary(tmp_path)["counts"]["rows"] == 300
    answered = rows(tmp_path / "outputs/data/images/details/tiny-student.jsonl")
    assert len({row["id"] for row in answered}) == len(answered) == 300
    nothing_left(nodes)


class Kills:
    """Kills of a worker, a node, or the command that started the run; ``bound``: what was in flight, at most."""

    def __init__(self, asking: Asking, seed: int) -> None:
        self.asking, self.nodes, self.random = asking, asking.nodes, random.Random(seed)
        self.settings = ("stage.timeout_s=10", "stage.max_retries=1", "stage.endpoint_wait_s=60")
        self.command = asking.start(*self.settings)
        self.done: Counter[str] = Counter()
        self.bound = 0

    def one(self) -> None:
        kinds: list[Callable[[], int]] = [self.worker, self.worker, self.node, self.run]
        kind = self.random.choice(kinds)
        self.bound += IN_FLIGHT * kind()
        self.done[kind.__name__] += 1

    def worker(self) -> int:
        found: list[psutil.Process] = []
        until(lambda: found.extend(p for n in range(NODES) for p in drivers(self.nodes, n)) or found)
        self.random.choice(found).kill()
        return 1

    def node(self) -> int:
        number = self.random.randrange(NODES)
        lost = len(drivers(self.nodes, number))
        self.nodes.kill(number)
        time.sleep(self.random.uniform(0, 5))
        self.nodes.start(number)
        return max(lost, 1)

    def run(self) -> int:
        os.killpg(self.command.pid, signal.SIGKILL)
        self.command.wait()
        self.command = self.asking.start(*self.settings)
        return DRIVERS


@pytest.mark.story
@pytest.mark.timeout(900)
def test_every_image_ends_once_whatever_is_killed(nodes: Nodes, tmp_path: Path) -> None:
    """KILLS=20 is the whole story; CI has fewer."""
    images, count, seed = 10_000, int(os.environ.get("KILLS", "6")), int(os.environ.get("SEED", "19"))
    faults.draw(tmp_path / "images", images)
    options = [option for name, share in FAULTS.items() for option in (f"--{name}", str(share))]
    with server.running("--host", nodes.head, "--latency", str(LATENCY_S), *options) as url:
        asking = Asking(nodes, tmp_path, url)
        kills = Kills(asking, seed)
        for moment in sorted(kills.random.uniform(0.02, 0.95) for _ in range(count)):
            until(lambda moment=moment: asking.written() >= moment * images or kills.command.poll() is not None, 300)  # type: ignore[misc]
            assert kills.command.poll() is None, asking.log.read_text()
            kills.one()
        assert kills.command.wait(300) == 0, asking.log.read_text()
        log = server.seen(url)
    answered, failed = asking.books()
    assert len(answered) + len(failed) == len({*answered, *failed}) == images
    counts = summary(tmp_path)["counts"]
    assert (counts["rows"], counts["failed"], counts["open"]) == (len(answered), len(failed), 0)
    replies = Counter(digest for _, digest, outcome in log if outcome == "answered")
    again = sum(replies.values()) - len(replies)
    print(
        f"{dict(kills.done)}: {len(answered)} rows, {len(failed)} failures, {again} of {len(log)} requests sent again"
    )
    assert again <= kills.bound
    assert not list(asking.data.glob("*slice*"))
    nothing_left(nodes)
