"""Serving with an engine that starts quickly: supervision, restarts, control from other shells, shutdown."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import LIGHT, command_line, free_ports
from vd100k.config.run import Run
from vd100k.engines.commands import Command
from vd100k.engines.serving.fleet import Fleet, start
from vd100k.engines.serving.http_api import served_models
from vd100k.engines.serving.supervisor import Program, Service
from vd100k.errors import ServerError


def until(true: Callable[[], object], seconds: float = 15) -> None:
    """Wait until the condition is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Whether the process has ended, possibly without having been reaped."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended
            found += [child] if "benchmarks.server" in str(child.cmdline()) else []
    return found


@pytest.fixture
def run(light_run: Callable[..., Run]) -> Run:
    return light_run("hardware.replicas=2", "hardware.max_restarts=1")


def kill(fleet: Fleet, number: int) -> None:
    pid = fleet.replicas[number].pid
    assert pid
    os.kill(pid, signal.SIGKILL)


def test_a_replica_that_dies_is_restarted_while_the_other_serves(run: Run, tmp_path: Path) -> None:
    heard: list[str] = []
    with start(run, tmp_path, changed=lambda fleet: heard.append(fleet.replicas[1].state)) as fleet:
        assert [served_models(url) for url in fleet.urls] == [["tiny-student"]] * 2
        kill(fleet, 1)
        until(lambda: served_models(fleet.urls[1]) is None)
        assert served_models(fleet.urls[0])
        until(lambda: served_models(fleet.urls[1]))
        until(lambda: fleet.replicas[1].state == "ready")
        assert fleet.replicas[1].restarts == 1
        assert heard[-3:] == ["restarting", "loading", "ready"]
    assert not children()


def test_a_replica_that_keeps_dying_has_failed_and_the_run_ends_after_the_last_one(run: Run, tmp_path: Path) -> None:
    with start(run, tmp_path) as fleet:
        for number in (0, 1):
            for _ in range(2):
                until(lambda: fleet.replicas[number].state == "ready")  # noqa: B023
                kill(fleet, number)
                until(lambda: fleet.replicas[number].state != "ready")  # noqa: B023
            until(lambda: fleet.replicas[number].state == "failed")  # noqa: B023
            if number == 0:
                fleet.check()
                assert served_models(fleet.urls[1])
        with pytest.raises(ServerError, match=r"replica 1 .* exited with code -9"):
            fleet.check()


def test_a_failure_before_any_replica_is_ready_ends_the_start(light_run: Callable[..., Run], tmp_path: Path) -> None:
    run = light_run("+hardware.engine.args.no_such_flag=1", "hardware.replicas=2")
    with pytest.raises(ServerError, match="unrecognized arguments: --no-such-flag"), start(run, tmp_path):
        pass
    assert not children()


def test_a_replica_that_never_responds_is_an_error(light_run: Callable[..., Run], tmp_path: Path) -> None:
    run = light_run("hardware.start_timeout_s=1", "hardware.engine.args.name=another")
    refusal = r"did not answer within 1 s \(hardware.start_timeout_s\)"
    with pytest.raises(ServerError, match=refusal), start(run, tmp_path):
        pass
    assert not children()


@pytest.mark.slow
def test_fifty_starts_leave_no_process_file_or_port_behind(light_run: Callable[..., Run], tmp_path: Path) -> None:
    run = light_run()
    files = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else None
    for _ in range(50):
        with start(run, tmp_path) as fleet:
            assert served_models(fleet.urls[0])
        assert not children()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", run.hardware.port or 0))
    if files is not None:
        assert len(list(Path("/proc/self/fd").iterdir())) == files
    assert {path.name for path in tmp_path.iterdir()} == {"outputs", "replica-0.log"}
    assert not list((tmp_path / "outputs").rglob("*.json*.tmp"))


class Shell:
    """Runs commands in a folder, each in its own process as in a shell."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_ports(3)

    def __call__(self, *overrides: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*overrides), cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )

    def command(self, *overrides: str) -> list[str]:
        given = [*LIGHT, "stage=serve", "tracking=none", f"hardware.port={self.port}", *overrides]
        return command_line(*given)

    def file(self) -> dict[str, object]:
        read: dict[str, object] = json.loads(
            (self.folder / f"outputs/servers/{self.port}.json").read_text(encoding="utf-8")
        )
        return read


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell("stage.action=stop", "stage.server=all")


def test_a_detached_server_is_controlled_from_any_shell(shell: Shell) -> None:
    detached = shell("stage.detach=true", "hardware.replicas=2")
    assert detached.returncode == 0, detached.stderr
    assert f"http://127.0.0.1:{shell.port}/v1" in detached.stdout
    pid = int(str(shell.file()["pid"]))
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    status = shell("stage.action=status").stdout
    assert f"{shell.port}  tiny-student  ready" in status
    assert status.count("replica") == 2
    assert "replica 1" in shell("stage.action=logs").stdout

    taken = shell("stage.detach=true")
    assert taken.returncode == 1
    assert f"at port {shell.port}: tiny-student, ready" in taken.stdout + taken.stderr
    assert shell.file()["pid"] == pid, "a failed start does not change the file of the running server"

    stopped = shell("stage.action=stop", f"stage.server={shell.port}")
    assert stopped.returncode == 0, stopped.stderr
    assert not [process for process in family if process.is_running()]
    assert not list((shell.folder / "outputs/servers").iterdir())
    assert "No server is running here" in shell("stage.action=stop").stderr


def test_a_stale_file_is_detected_and_removed(shell: Shell) -> None:
    assert shell("stage.detach=true").returncode == 0
    os.kill(int(str(shell.file()["pid"])), signal.SIGKILL)
    until(lambda: "stale" in shell("stage.action=status").stdout)
    gone = shell("stage.action=logs")
    assert "ended unexpectedly" in gone.stdout
    assert not list((shell.folder / "outputs/servers").iterdir())
    until(lambda: served_models(f"http://127.0.0.1:{shell.port}/v1") is None)
    assert shell("stage.detach=true").returncode == 0, "its port is free again"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_server_and_leaves_nothing_behind(shell: Shell, number: int) -> None:
    process = subprocess.Popen(
        shell.command("hardware.replicas=2"),
        cwd=shell.folder,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # under nohup, it would be ignored
    )
    assert process.stdout
    assert any("Ctrl-C stops it" in line for line in process.stdout)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    assert process.wait(15) == 0
    assert not [child for child in family if child.is_running()]
    assert not list((shell.folder / "outputs/servers").iterdir())
    process.stdout.close()


def test_a_closed_output_pipe_does_not_stop_the_server(shell: Shell) -> None:
    process = subprocess.Popen(shell.command("hardware.max_restarts=2"), cwd=shell.folder, stdout=subprocess.PIPE)
    assert process.stdout
    assert any(b"Ctrl-C stops it" in line for line in process.stdout)
    process.stdout.close()
    replica = psutil.Process(process.pid).children()[0]
    replica.kill()  # so that a message is printed
    until(lambda: served_models(f"http://127.0.0.1:{shell.port}/v1") is None)
    until(lambda: served_models(f"http://127.0.0.1:{shell.port}/v1"))
    assert process.poll() is None
    process.terminate()
    assert process.wait(15) == 0


def test_programs_of_a_dead_server_are_stopped(shell: Shell) -> None:
    assert shell("stage.detach=true").returncode == 0
    replica = shell.file()["programs"][0]  # type: ignore[index]
    os.kill(int(str(shell.file()["pid"])), signal.SIGSTOP)  # so that it cannot stop them itself
    os.kill(int(str(shell.file()["pid"])), signal.SIGKILL)
    until(lambda: "stale" in shell("stage.action=status").stdout)
    shell("stage.action=stop")
    until(lambda: gone(replica["pid"]))


def test_an_error_in_the_supervision_ends_the_run(light_run: Callable[..., Run], tmp_path: Path) -> None:
    def changed(fleet: Fleet) -> None:
        if fleet.replicas[0].restarts:
            raise OSError("no space left")

    with start(light_run(), tmp_path, changed=changed) as fleet:
        kill(fleet, 0)
        until(lambda: fleet.error)
        with pytest.raises(ServerError, match=r"supervision.*no space left"):
            fleet.check()
    assert not children()


def sleeping(log: Path) -> Program:
    return Program("replica 0", Command(["sleep", "600"]), 1, "http://127.0.0.1:1/v1", log, lambda: True)


def test_a_program_that_cannot_be_started_has_failed_and_is_tried_again(tmp_path: Path) -> None:
    program = Program(
        "replica 0", Command(["sleep", "600"]), 1, "http://127.0.0.1:1/v1", tmp_path / "r.log", lambda: True
    )
    service = Service(program, start_timeout_s=60, max_restarts=3)
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 20, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        message = service.poll()
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    assert message
    assert "replica 0 could not be started: " in message
    assert "Too many open files" in message
    assert "will be restarted in 1 s (1 of 3)" in message
    assert service.state == "restarting"
    until(lambda: service.poll() and service.state == "ready")
    service.stop()


def test_a_program_whose_log_cannot_be_written_fails_for_good(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    service = Service(sleeping(tmp_path / "file" / "logs" / "r.log"), start_timeout_s=60, max_restarts=0)
    assert "Not a directory" in (service.poll() or "")
    assert service.state == "failed"
    assert "could not be started" in service.last_words


def test_a_folder_that_the_registry_cannot_write_to_is_one_message(shell: Shell) -> None:
    (shell.folder / "outputs").mkdir()
    (shell.folder / "outputs/servers").touch()
    done = shell()
    assert done.returncode == 1
    assert "outputs/servers" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert served_models(f"http://127.0.0.1:{shell.port}/v1") is None
    assert "No server is running here" in shell("stage.action=status").stdout
