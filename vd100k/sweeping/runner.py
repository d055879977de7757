"""Our process on a machine that runs a job of a sweep there, as ``python run.py …`` would."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from vd100k.cluster.placement import Shared, address, enter
from vd100k.engines.commands import Command
from vd100k.engines.process import GRACE_S, Child
from vd100k.errors import DataError
from vd100k.sweeping import ports
from vd100k.sweeping.job import Job

MEETING = "MASTER_PORT"  # where the processes of a training on several GPUs meet


class Runner:
    """Runs a job from its creation on; Ray creates it again on another machine if its own is lost.

    ``program`` is the path of run.py, ``environment`` has the variables that only the machine of the sweep has, and
    ``locks_s`` is how long a lost machine may keep its locks on files.
    """

    def __init__(self, job: Job, shared: Shared, program: Path, environment: dict[str, str], locks_s: float) -> None:
        import ray

        enter(shared)
        place = job.folder / ".machine"
        if ray.get_runtime_context().was_current_actor_reconstructed:  # the job before may still have its locks
            was_here = place.exists() and place.read_text(encoding="utf-8") == address()
            time.sleep(GRACE_S if was_here else locks_s)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(address(), encoding="utf-8")
        if not program.exists():
            raise DataError(f"{address()}: {program}, which runs the jobs, does not exist there")
        self._stack = contextlib.ExitStack()
        chosen = self._stack.enter_context(ports.reserved(job.ports | {MEETING: 1}))
        meeting = {MEETING: str(chosen.pop(MEETING))}
        command = [sys.executable, str(program), *job.command(chosen)]
        variables = environment | meeting
        self._child = Child(Command(command, variables, [*os.environ]), job.log)

    def state(self) -> tuple[str, int | None]:
        """The address of this machine, and the exit code of the job; None while it runs."""
        return address(), self._child.exit_code()

    def stop(self) -> None:
        """End the job and everything that it has started."""
        self._child.stop()
        self._stack.close()
