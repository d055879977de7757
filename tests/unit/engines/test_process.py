"""Child processes and their descendants have ended when the block ends, even if they ignore signals."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from vd100k.engines.commands import Command
from vd100k.engines.process import DIE_WITH_PARENT, Child

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


def test_an_orphan_is_found_by_its_session_and_killed(tmp_path: Path) -> None:
    parent = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True)"
    log = tmp_path / "child.log"
    with Child(Command([sys.executable, "-c", parent]), log) as child:
        orphan = int(wait_for_line(log))
        child.wait(5)
        assert not gone(orphan)
    assert gone(orphan)


def test_the_tail_shows_only_the_last_state_of_a_progress_bar(tmp_path: Path) -> None:
    program = "print('first'); print('  1 %\\r 50 %\\r100 %'); print('last')"
    with Child(Command([sys.executable, "-c", program]), tmp_path / "l.log") as child:
        child.wait(10)
        assert child.tail(2).split() == ["100", "%", "last"]


@pytest.mark.skipif(not DIE_WITH_PARENT, reason="only Linux can signal a child when its parent dies")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    program = (
        "import sys, time, pathlib\n"
        "from vd100k.engines.commands import Command\n"
        "from vd100k.engines.process import Child\n"
        "argv = [sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(600)']\n"
        f"with Child(Command(argv), pathlib.Path({str(log)!r})):\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        pid = int(wait_for_line(log))
        parent.kill()
    for _ in range(100):
        if gone(pid):
            break
        time.sleep(0.05)
    assert gone(pid)
