"""Child processes and their descendants have ended when the block ends, even if they ignore signals."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from vd100k.engines.commands import Command
from vd100k.engines.process import Child

STUBBORN = (
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import signal, time;"
    " signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)'])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)\n"
)


def gone(pid: int) -> bool:
    """Whether the process has ended, possibly without having been reaped."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for_line(log: Path) -> str:
    for _ in range(200):
        if log.exists() and (text := log.read_text(encoding="utf-8")).endswith("\n"):
            return text
        time.sleep(0.05)
    raise AssertionError(f"{log} has no complete line")


def test_processes_that_ignore_sigterm_are_killed_within_ten_seconds(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    with Child(Command([sys.executable, "-c", STUBBORN]), log) as child:
        grandchild = int(wait_for_line(log))
        time.sleep(0.3)  # until the grandchild ignores the signal
        assert not gone(grandchild)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert gone(grandchild)
    assert child.exit_code() is not None


def test_the_tail_shows_only_the_last_state_of_a_progress_bar(tmp_path: Path) -> None:
    program = "print('first'); print('  1 %\\r 50 %\\r100 %'); print('last')"
    with Child(Command([sys.executable, "-c", program]), tmp_path / "l.log") as child:
        child.wait(10)
        assert child.tail(2).split() == ["100", "%", "last"]


SLEEP = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
# A grandchild that ignores SIGTERM, in a session of its own, whose parent ends at once.
DETACHED = (
    "import subprocess, sys, time\n"
    "middle = 'import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)'\n"
    "subprocess.run([sys.executable, '-c', middle, sys.executable, *sys.argv[1:]], start_new_session=True)\n"
    "time.sleep(600)\n"
)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.5])
def test_no_process_is_left_if_the_parent_is_killed_not_even_outside_its_session(
    tmp_path: Path, number: int, delay_s: float
) -> None:
    mark = str(tmp_path)
    program = (
        "import sys, time, pathlib\n"
        "from vd100k.engines.commands import Command\n"
        "from vd100k.engines.process import Child\n"
        f"argv = [sys.executable, '-c', {DETACHED!r}, '-c', {SLEEP!r}, {mark!r}]\n"
        "with Child(Command(argv), pathlib.Path(sys.argv[1])):\n"
        "    print('started', flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "child.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        parent.stdout.readline()
        time.sleep(delay_s)
        parent.send_signal(number)
    until = time.monotonic() + 10
    while (left := with_argument(mark)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left


def with_argument(text: str) -> list[list[str]]:
    """The command lines of running processes that have this argument."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if text in line and process.status() != psutil.STATUS_ZOMBIE:
                found.append(line)
    return found


@pytest.mark.parametrize("end", ["sys.exit(0)", "sys.exit(3)", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 11)"])
def test_the_exit_code_is_that_of_the_program(tmp_path: Path, end: str) -> None:
    argv = [sys.executable, "-c", f"import os, sys; {end}"]
    expected = subprocess.run(argv, check=False).returncode
    with Child(Command(argv), tmp_path / "child.log") as child:
        child.wait(20)
        assert child.exit_code() == expected


def test_a_missing_program_is_reported_in_the_log(tmp_path: Path) -> None:
    with Child(Command(["no-such-program"]), tmp_path / "child.log") as child:
        child.wait(20)
        assert child.exit_code() == 127
        assert child.tail().strip() == "no-such-program: No such file or directory"


def test_what_a_program_leaves_behind_is_ended_when_it_exits(tmp_path: Path) -> None:
    leaves = "import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True)"
    log = tmp_path / "child.log"
    with Child(Command([sys.executable, "-c", leaves]), log) as child:
        left = int(wait_for_line(log))
        child.wait(20)
        assert child.exit_code() == 0
        assert gone(left)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux tells which signals a process ignores")
def test_a_program_ignores_no_signal_that_it_would_not_ignore_in_a_shell(tmp_path: Path) -> None:
    # Python ignores SIGPIPE and SIGXFSZ, and a program inherits what is ignored.
    log = tmp_path / "child.log"
    with Child(Command(["grep", "SigIgn", "/proc/self/status"]), log) as child:
        child.wait(20)
        ignored = int(child.tail().split()[-1], 16)
    assert not [number for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM) if ignored >> (number - 1) & 1]
