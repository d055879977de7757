"""Child processes that keep a log, are watched, and never outlive us."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from vd100k.engines.commands import Command

GRACE_S = 5.0
ERROR = re.compile(r"\b[A-Z]\w*Error\b")
# Where Linux has it, the kernel ends a child whose parent was killed too hard to do it itself.
WITH_PARENT = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []


class Child:
    """A program with its output in ``log``; leaving the ``with`` block ends it and all it started.

    It gets a session of its own, so that a Ctrl-C in the terminal reaches us alone and we end it.
    """

    def __init__(self, command: Command, log: Path) -> None:
        self.log = log
        self._asked_at = 0.0
        log.parent.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, **command.env, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                [*WITH_PARENT, *command.argv],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> None:
        """Until it ends, ``seconds`` at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def terminate(self) -> None:
        """Ask it and its children to end, without waiting."""
        self._asked_at = self._asked_at or time.monotonic()
        _signal(self._family(), signal.SIGTERM)

    def stop(self) -> None:
        """Ask it and its children to end, then make them; a second Ctrl-C makes them at once."""
        family = self._family()
        try:
            self.terminate()
            psutil.wait_procs(family, timeout=max(0.0, self._asked_at + GRACE_S - time.monotonic()))
        finally:
            left = {*family, *self._family()}
            _signal(left, signal.SIGKILL)
            self._process.wait()
            psutil.wait_procs(left, timeout=GRACE_S)

    def tail(self, lines: int = 15) -> str:
        return tail(self.log, lines, self._log_start)

    def last_words(self, name: str) -> str:
        """How it ended, for an error message."""
        return f"{name} ended with exit code {self.exit_code()}. Its last lines ({self.log}):\n{self.tail()}"

    def _family(self) -> set[psutil.Process]:
        """The process, its descendants, and whoever else is in the session we gave it."""
        family: set[psutil.Process] = set()
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self._process.pid)
            family |= {parent, *parent.children(recursive=True)}
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getsid(process.pid) == self._process.pid:
                    family.add(process)
        return family


def tail(log: Path, lines: int = 15, start: int = 0) -> str:
    """The last lines of a log from byte ``start``, and before them the first error, which those may only refer to."""
    with contextlib.suppress(OSError):
        text = log.read_bytes()[start:].decode(errors="replace")
        # A progress bar rewrites its line: only the last state of it is worth showing.
        kept = [line.rstrip().rsplit("\r", 1)[-1][:300] for line in text.splitlines() if line.strip()]
        first = next((line for line in kept[:-lines] if ERROR.search(line)), None)
        return "\n".join(f"    {line}" for line in ([first, "…"] if first else []) + kept[-lines:])
    return ""


def _signal(processes: set[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
