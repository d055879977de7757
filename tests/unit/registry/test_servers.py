"""A file of a server belongs to the process that wrote it, and to no later process that looks like it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vd100k.config.run import Run
from vd100k.errors import ServerError
from vd100k.registry import processes, servers, stopping

LINUX = pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux has a boot id and start times in ticks")


@pytest.fixture
def other() -> Iterator[psutil.Process]:
    """Another running process."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def write(run: Run, process: psutil.Process, **changes: Any) -> Path:
    """The file that ``process`` would have written, with some facts changed; None leaves one out."""
    known = {
        "port": run.hardware.port,
        "model": "m",
        "url": "u",
        "host": platform.node(),
        "folder": "f",
        "programs": [],
    }
    content = known | processes.identity(process.pid) | changes
    path = servers.folder(run) / f"{run.hardware.port}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return path


def state(run: Run) -> str:
    (server,) = servers.known(run)
    return server.status


def test_a_file_with_our_own_process_id_is_stale_before_we_wrote_one(light_run: Callable[..., Run]) -> None:
    # A container that is restarted: the same host name, process id and command line, minutes later.
    run = light_run()
    write(run, psutil.Process(), started=psutil.Process().create_time() - 60, boot=None, ticks=None)
    servers.refuse_second(run)
    write(run, psutil.Process())
    servers.refuse_second(run)


def test_a_running_server_is_found(light_run: Callable[..., Run], other: psutil.Process) -> None:
    run = light_run()
    write(run, other)
    assert state(run) == "ready"
    with pytest.raises(ServerError, match=f"process {other.pid}"):
        servers.refuse_second(run)


@pytest.mark.parametrize("earlier_s", [30, 3000])
def test_another_process_with_the_same_number_and_command_is_not_the_server(
    light_run: Callable[..., Run], other: psutil.Process, earlier_s: int
) -> None:
    run = light_run()
    write(run, other, started=other.create_time() - earlier_s, boot=None, ticks=None)  # as before a restart
    assert state(run) == "stale"
    facts = processes.identity(other.pid)
    if facts["ticks"]:
        write(run, other, started=other.create_time() - earlier_s, ticks=facts["ticks"] - 100 * earlier_s)
        assert state(run) == "stale"
    servers.refuse_second(run)


@LINUX
def test_a_server_of_an_earlier_boot_is_stale(light_run: Callable[..., Run], other: psutil.Process) -> None:
    run = light_run()
    write(run, other, boot="00000000-0000-0000-0000-000000000000")
    assert state(run) == "stale"


@LINUX
def test_a_clock_that_is_set_does_not_make_a_server_stale(light_run: Callable[..., Run], other: psutil.Process) -> None:
    run = light_run()
    write(run, other, started=other.create_time() - 86_400)
    assert state(run) == "ready"


def test_a_file_without_the_newer_facts_is_still_read(light_run: Callable[..., Run], other: psutil.Process) -> None:
    run = light_run()
    write(run, other, boot=None, ticks=None)
    assert state(run) == "ready"
    path = write(run, other, boot=None, ticks=None, programs=[{"name": "replica 0"}])
    assert state(run) == "0 of 1 ready"
    other.kill()
    other.wait(5)
    assert servers.known(run)[0].status == "stale"
    with pytest.raises(ServerError, match="No server"):
        servers.chosen(run, "all")
    assert not path.exists()


@pytest.fixture
def run(light_run: Callable[..., Run]) -> Run:
    return light_run()


words = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
values = st.recursive(words, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6)
keys = st.sampled_from([*servers.Server.__dataclass_fields__, "name"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.dictionaries(keys, values) | values)
def test_no_content_of_a_file_is_a_crash(run: Run, content: Any) -> None:
    whole = {"port": 1, "model": "m", "url": "u", "host": "elsewhere", "folder": "f", "programs": []}
    whole |= {"pid": 1, "started": time.time(), "command_hash": ""}
    path = servers.folder(run) / "1.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole | content if isinstance(content, dict) else content))
    for server in servers.known(run):
        assert isinstance(server.status, str)
        assert isinstance(servers.age(server), str)
    path.unlink(missing_ok=True)


def elsewhere(run: Run, process: psutil.Process) -> servers.Server:
    """A server that says it runs on another machine."""
    write(run, process, host="elsewhere")
    (server,) = servers.known(run)
    return server


def test_a_server_elsewhere_that_does_not_respond_is_one_message(run: Run, other: psutil.Process) -> None:
    server = elsewhere(run, other)
    assert server.status == "ready, on elsewhere"
    with pytest.raises(ServerError, match=rf"runs on elsewhere .* remove .*/{server.port}\.json"):
        stopping.end(run, server, noticed_s=0.1)
    assert other.is_running(), "a process of this machine may have the same number"
    request = servers.request(run, server.port, "elsewhere")
    assert request.read_text() == platform.node(), "it stops when it sees the request"
    assert servers.file(run, server.port, "elsewhere").exists()


def test_servers_of_two_machines_at_one_port_are_told_apart(run: Run, other: psutil.Process) -> None:
    theirs = write(run, other, host="elsewhere", model="theirs")
    servers.refuse_second(run)
    ours = servers.file(run, run.hardware.port or 0)
    assert ours.name == f"{run.hardware.port}-{platform.node()}.json"
    write(run, other).rename(ours)
    write(run, other, host="elsewhere", model="theirs")
    assert {one.model for one in servers.known(run)} == {"m", "theirs"}
    for name, model in ((str(run.hardware.port), "m"), (f"elsewhere:{run.hardware.port}", "theirs")):
        assert [one.model for one in servers.chosen(run, name)] == [model]
    with pytest.raises(ServerError, match=r"choose one with stage\.server=PORT or stage\.server=MACHINE:PORT"):
        servers.chosen(run, None)
    servers.forget(run, run.hardware.port or 0, other.pid)
    assert theirs.exists()
    assert not ours.exists()


def test_a_request_of_an_earlier_server_stops_no_later_one(run: Run) -> None:
    servers.folder(run).mkdir(parents=True)
    servers.request(run, run.hardware.port or 0).write_text("elsewhere")
    with stopping.heeded(run):
        time.sleep(3 * stopping.POLL_S)
    assert not list(servers.folder(run).iterdir())
