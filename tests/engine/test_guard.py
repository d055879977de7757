"""A killed ``stage=serve`` leaves no process behind, at whatever moment of the start of vLLM."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import free_ports
from tests.engine.conftest import Running

pytestmark = [pytest.mark.engine, pytest.mark.story, pytest.mark.timeout(900)]
KILL_AFTER_S = [0, 1, 2, 4, 6, 9, 12, 16, 20, 25]
GONE_WITHIN_S = 12.0  # SIGTERM, SIGKILL five seconds later, and the exit of several processes on a busy machine


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only on Linux does a guard find every process")
def test_no_process_is_left_of_a_killed_server_that_was_still_loading(
    launch: Callable[..., Running], tmp_path: Path
) -> None:
    for seconds in KILL_AFTER_S:
        mark = f"{tmp_path.name}-{seconds}"
        port = f"hardware.port={free_ports(1)}"
        running = launch(tmp_path, "stage=serve", "model=tiny-teacher", port, f"+hardware.engine.env.MARK={mark}")
        running.wait_for("loading", 60)
        time.sleep(seconds)
        family = running.family()
        assert family
        running.process.kill()
        until = time.monotonic() + GONE_WITHIN_S
        while (left := alive(family, mark)) and time.monotonic() < until:
            time.sleep(0.1)
        assert not left, f"killed after {seconds} s"


def alive(family: list[psutil.Process], mark: str) -> list[psutil.Process]:
    """The running processes among these, and those with ``MARK`` in their environment."""
    found = []
    for process in {*family, *psutil.process_iter()}:
        with contextlib.suppress(psutil.Error):
            known = process in family or process.environ().get("MARK") == mark
            found += [process] if known and process.is_running() and process.status() != psutil.STATUS_ZOMBIE else []
    return found
