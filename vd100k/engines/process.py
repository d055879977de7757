"""Child processes with a log file, which never outlive this process."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from vd100k.engines import guard
from vd100k.engines.commands import Command, environment

GRACE_S = guard.GRACE_S + 2.0  # the guard needs a moment more than the program
ERROR = re.compile(r"\b[A-Z]\w*Error\b")
GUARD = [sys.executable, "-I", "-S", guard.__file__]


class Child:
    """A program that writes its output to ``log``; leaving the ``with`` block ends it and all its descendants.

    It gets its own session, so that Ctrl-C in the terminal reaches only this process, which then ends the child.
    A guard above it (``guard.py``) ends it if this process is killed.
    """

    def __init__(self, command: Command, log: Path) -> None:
        self.log = log
        self._terminated_at = 0.0
        log.parent.mkdir(parents=True, exist_ok=True)
        env = {**environment(command), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                [*GUARD, str(os.getpid()), *command.argv],
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
        """The process of the program; that of its guard as long as the program has not been started."""
        with contextlib.suppress(psutil.Error):
            for program in psutil.Process(self._process.pid).children()[:1]:
                return program.pid
        return self._process.pid

    def exit_code(self) -> int | None:
        """The exit code; None while the program runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> None:
        """Wait until the program ends, for at most ``seconds``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def terminate(self) -> None:
        """Have the guard end the program and its descendants, without waiting."""
        self._terminated_at = self._terminated_at or time.monotonic()
        self._process.terminate()

    def stop(self) -> None:
        """End the program and its descendants, and wait for it; a second Ctrl-C kills them at once."""
        family = self._family()
        try:
            self.terminate()
            self.wait(max(0.0, self._terminated_at + GRACE_S - time.monotonic()))
        finally:
            left = {*family, *self._family()}
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self._process.wait()
            psutil.wait_procs(left, timeout=GRACE_S)

    def tail(self, lines: int = 15) -> str:
        """The last lines of what this child has written to the log; see the function ``tail``."""
        return tail(self.log, lines, self._log_start)

    def last_words(self, name: str) -> str:
        """The exit code and the end of the log, as text for an error message."""
        return f"{name} exited with code {self.exit_code()}. The end of its log ({self.log}):\n{self.tail()}"

    def _family(self) -> set[psutil.Process]:
        """The process, its descendants, and all other processes in its session."""
        family: set[psutil.Process] = set()
        with contextlib.suppress(OSError, psutil.Error):  # without a free descriptor, the guard has to do
            parent = psutil.Process(self._process.pid)
            family |= {parent, *parent.children(recursive=True)}
        with contextlib.suppress(OSError, psutil.Error):
            for process in psutil.process_iter():
                with contextlib.suppress(OSError, psutil.Error):
                    if os.getsid(process.pid) == self._process.pid:
                        family.add(process)
        return family


def tail(log: Path, lines: int = 15, start: int = 0) -> str:
    """The last lines of a log after byte ``start``, preceded by the first error, which they may only refer to."""
    with contextlib.suppress(OSError):
        text = log.read_bytes()[start:].decode(errors="replace")
        # A progress bar overwrites its line: only its last state is worth showing.
        kept = [line.rstrip().rsplit("\r", 1)[-1][:300] for line in text.splitlines() if line.strip()]
        first = next((line for line in kept[:-lines] if ERROR.search(line)), None)
        return "\n".join(f"    {line}" for line in ([first, "…"] if first else []) + kept[-lines:])
    return ""
