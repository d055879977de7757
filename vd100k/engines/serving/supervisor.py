"""A server program: started, polled until it is ready, and restarted when it exits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from vd100k.engines.commands import Command
from vd100k.engines.process import Child
from vd100k.engines.serving.ports import binding_error

FIRST_DELAY_S, MAX_DELAY_S = 1.0, 60.0  # before a restart, doubled each time
STABLE_S = 600.0  # after this time without a failure, earlier restarts no longer count

State = Literal["loading", "ready", "restarting", "failed"]


@dataclass(frozen=True)
class Program:
    """A command and the URL that it serves; ``answers`` tells quickly whether the server responds there."""

    name: str
    command: Command
    port: int
    url: str
    log: Path
    answers: Callable[[], bool]
    rebinds_port: bool = True


class Supervised(Protocol):
    """A program as its fleet sees it, on this machine (``Service``) or on another; ``poll`` advances its state."""

    state: State
    restarts: int
    was_ready: bool
    last_words: str

    @property
    def program(self) -> Program: ...
    @property
    def pid(self) -> int | None: ...
    def poll(self) -> str | None: ...
    def terminate(self) -> None: ...


class Service:
    """A supervised program: ``poll`` advances its state and must be called several times per second.

    A program that cannot be started, exits, or does not respond within ``start_timeout_s`` is restarted.
    It has failed for good after ``max_restarts`` restarts without ``STABLE_S`` seconds of service in between.
    """

    def __init__(self, program: Program, start_timeout_s: float, max_restarts: int) -> None:
        self.program = program
        self.state: State = "restarting"
        self.restarts = 0
        self.was_ready = False
        self.last_words = ""
        self._start_timeout_s, self._max_restarts = start_timeout_s, max_restarts
        self._child: Child | None = None
        self._since = self._due = 0.0

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def poll(self) -> str | None:
        """Check the program and start or stop it as needed; returns a message if the state changed, otherwise None."""
        now = time.monotonic()
        if self.state == "restarting":
            free = self.program.rebinds_port or binding_error(self.program.port) is None
            return self._start(now) if now >= self._due and free else None
        if self.state == "failed" or self._child is None:
            return None
        if self._child.exit_code() is not None:
            return self._fail(now, f"exited with code {self._child.exit_code()}")
        if self.state == "ready":
            if now - self._since > STABLE_S:
                self.restarts = 0
            return None
        if self.program.answers():
            seconds, self.state, self._since, self.was_ready = now - self._since, "ready", now, True
            return f"{self.program.name} answers after {seconds:.0f} s: {self.program.url}"
        if now - self._since > self._start_timeout_s:
            return self._fail(now, f"did not answer within {self._start_timeout_s:.0f} s (hardware.start_timeout_s)")
        return None

    def terminate(self) -> None:
        """Send SIGTERM, without waiting."""
        if self._child:
            self._child.terminate()

    def stop(self) -> None:
        """End the program and its descendants."""
        if self._child:
            self._child.stop()
            self._child = None

    def _start(self, now: float) -> str:
        try:
            self._child = Child(self.program.command, self.program.log)
        except OSError as error:  # no memory, no descriptors: it may be better later
            return self._fail(now, f"could not be started: {error}")
        self.state, self._since = "loading", now
        return f"{self.program.name}: loading, log {self.program.log}"

    def _fail(self, now: float, why: str) -> str:
        log = f"The end of its log ({self.program.log}):\n{self._child.tail()}" if self._child else ""
        self.last_words = f"{self.program.name} {why}. {log}".rstrip()
        self.stop()  # its descendants may still occupy the GPU
        if self.restarts >= self._max_restarts:
            self.state = "failed"
            return f"{self.last_words}\n{self.program.name} failed for good after {self.restarts} restarts."
        delay_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2**self.restarts)
        self.restarts += 1
        self.state, self._due = "restarting", now + delay_s
        return (
            f"{self.last_words}\n"
            f"{self.program.name} will be restarted in {delay_s:.0f} s ({self.restarts} of {self._max_restarts})."
        )
