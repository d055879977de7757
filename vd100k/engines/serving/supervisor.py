"""A program that serves at an address: started, awaited, and started again when it dies."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vd100k.engines.commands import Command
from vd100k.engines.process import Child
from vd100k.engines.serving.ports import binding_error

FIRST_REST_S, LONGEST_REST_S = 1.0, 60.0
SOUND_S = 600.0  # after so long without trouble, what was before is forgotten

State = Literal["loading", "ready", "resting", "given up"]


@dataclass(frozen=True)
class Program:
    """What is started, and where it then answers; ``answers`` is quick, and says whether it does."""

    name: str
    command: Command
    port: int
    url: str
    log: Path
    answers: Callable[[], bool]
    rebinds_port: bool = True


class Service:
    """A program under watch: ``look`` moves it on, and is to be called some times a second.

    It is given up after ``max_restarts`` restarts with less than ten minutes of peace between them,
    or when it did not come up within ``start_timeout_s`` that often.
    """

    def __init__(self, program: Program, start_timeout_s: float, max_restarts: int) -> None:
        self.program = program
        self.state: State = "resting"
        self.restarts = 0
        self.was_ready = False
        self.last_words = ""
        self._start_timeout_s, self._max_restarts = start_timeout_s, max_restarts
        self._child: Child | None = None
        self._since = self._due = 0.0

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def look(self) -> str | None:
        """See how it does and do what is due; in words what has changed, None if nothing has."""
        now = time.monotonic()
        if self.state == "resting":
            free = self.program.rebinds_port or binding_error(self.program.port) is None
            return self._start(now) if now >= self._due and free else None
        if self.state == "given up" or self._child is None:
            return None
        if self._child.exit_code() is not None:
            return self._fall(now, f"ended with exit code {self._child.exit_code()}")
        if self.state == "ready":
            if now - self._since > SOUND_S:
                self.restarts = 0
            return None
        if self.program.answers():
            seconds, self.state, self._since, self.was_ready = now - self._since, "ready", now, True
            return f"{self.program.name} answers after {seconds:.0f} s: {self.program.url}"
        if now - self._since > self._start_timeout_s:
            return self._fall(now, f"did not answer within {self._start_timeout_s:.0f} s (hardware.start_timeout_s)")
        return None

    def terminate(self) -> None:
        """Ask it to end, without waiting."""
        if self._child:
            self._child.terminate()

    def stop(self) -> None:
        """End it and all it started."""
        if self._child:
            self._child.stop()
            self._child = None

    def _start(self, now: float) -> str:
        self._child = Child(self.program.command, self.program.log)
        self.state, self._since = "loading", now
        return f"{self.program.name}: loading, log {self.program.log}"

    def _fall(self, now: float, why: str) -> str:
        assert self._child is not None
        self.last_words = f"{self.program.name} {why}. Its last lines ({self._child.log}):\n{self._child.tail()}"
        self.stop()  # what it had started may still hold the GPU
        if self.restarts >= self._max_restarts:
            self.state = "given up"
            return f"{self.last_words}\n{self.program.name} is given up after {self.restarts} restarts."
        rest_s = min(LONGEST_REST_S, FIRST_REST_S * 2**self.restarts)
        self.restarts += 1
        self.state, self._due = "resting", now + rest_s
        return (
            f"{self.last_words}\n"
            f"{self.program.name} is started again in {rest_s:.0f} s ({self.restarts} of {self._max_restarts})."
        )
