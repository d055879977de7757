"""Processes recognised after their number has been used again, and ended."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pydantic import FiniteFloat, PositiveInt

from vd100k.io import fingerprint

GRACE_S = 20.0
TOLERANCE_S = 2.0  # between two readings of a start time that depends on the clock


@dataclass(frozen=True, kw_only=True)
class Process:
    """Facts that together identify a process, because its number is used again after its end."""

    pid: PositiveInt | None = None
    started: FiniteFloat = 0.0  # seconds since the epoch; changes when the clock is set
    command_hash: str = ""  # of its arguments, which may have secrets
    boot: str | None = None  # Linux's name of the boot, and the start time since then in ticks of the kernel;
    ticks: int | None = None  # files of earlier versions lack both

    @property
    def exists(self) -> bool:
        """Whether this very process still runs. If the number is ours, it was an earlier process's before."""
        facts = {} if self.pid in (None, os.getpid()) else identity(self.pid)
        if not facts:
            return False
        if self.boot and self.ticks:
            return bool((self.boot, self.ticks) == (facts["boot"], facts["ticks"]))
        return bool(abs(facts["started"] - self.started) < TOLERANCE_S and facts["command_hash"] == self.command_hash)


def identity(pid: int | None) -> dict[str, Any]:
    """The facts of ``Process`` about a process; empty if there is none."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            command = fingerprint.of(process.cmdline())
            known = {"pid": process.pid, "started": process.create_time(), "command_hash": command}
            return known | _since_boot(process.pid)
    return {}


def _since_boot(pid: int) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, IndexError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # Field 22 of stat, see proc(5); the name of the program, in brackets, may contain spaces.
        ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
        return {"boot": boot, "ticks": ticks}
    return {"boot": None, "ticks": None}


def end(pid: int | None) -> None:
    """Terminate a process, which ends its programs, and wait for all of them; those that stay are killed."""
    family = []
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        process.terminate()
    _, left = psutil.wait_procs(family, timeout=GRACE_S)
    kill(left)


def kill(processes: list[psutil.Process]) -> None:
    """Kill processes and wait for them."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=GRACE_S)
