"""A killed ``stage=serve`` leaves no process behind, at whatever moment of the start of vLLM."""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import command_line, free_ports

pytestmark = [pytest.mark.engine, pytest.mark.story, pytest.mark.timeout(900)]
KILL_AFTER_S = [1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20, 24, 28]
GONE_WITHIN_S = 12.0  # SIGTERM, SIGKILL five seconds later, and the exit of several processes on a busy machine


def test_no_process_is_left_of_a_killed_server_that_was_still_loading(tmp_path: Path) -> None:
    subprocess.run(
        command_line("stage=serve", "model=tiny-teacher", "dry_run=true"), cwd=tmp_path, check=True, capture_output=True
    )
    for seconds in KILL_AFTER_S:
        command = command_line("stage=serve", "model=tiny-teacher", f"hardware.port={free_ports(1)}")
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as server:
            time.sleep(seconds)
            family = psutil.Process(server.pid).children(recursive=True)
            server.kill()
        _, left = psutil.wait_procs(family, timeout=GONE_WITHIN_S)
        assert not left, f"killed after {seconds} s: {left}"
        assert not below(tmp_path), f"killed after {seconds} s"


def below(folder: Path) -> list[psutil.Process]:
    """The running processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
