"""The jobs of a sweep, each placed on a machine that has what it needs, and watched until it ends."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vd100k.cluster import placement, session
from vd100k.cluster.placement import Shared
from vd100k.config.run import Run
from vd100k.console import say
from vd100k.engines.process import tail
from vd100k.errors import ServerError
from vd100k.sweeping.job import Job
from vd100k.sweeping.runner import Runner

POLL_S = 0.2
RESTARTS = 3  # of a job whose machine is lost


@dataclass
class Placed:
    """A job with its actor, once it has one; ``code`` is its exit code, ``fault`` why it has none."""

    job: Job
    actor: Any
    asked: placement.Asked
    where: str = ""
    code: int | None = None
    fault: str = ""

    @property
    def ended(self) -> bool:
        return self.code is not None or bool(self.fault)

    @property
    def problem(self) -> str:
        """Why it failed, with the end of its log; empty if it did not."""
        if self.code == 0:
            return ""
        ending = self.fault or f"exited with code {self.code}. The end of its log ({self.job.log}):"
        return f"job {self.job.number} on {self.where or 'no machine'}: {ending}\n{tail(self.job.log)}".rstrip()


def run_all(run: Run, jobs: list[Job], variables: set[str], cpus: float, locks_s: float) -> list[Placed]:
    """Run all jobs, as many at a time as the cluster has room for; ``run`` says which cluster that is.

    Raises:
        ServerError: there is no such cluster, it is lost, or none of its machines has what a job needs.
    """
    with session.probe(run.output_dir) as probe, session.connected(run) as ray:
        head = session.Head(ray.get_runtime_context().gcs_address)
        for needed in {job.gpus: _needed(run, job, cpus) for job in jobs}.values():
            _require(ray, needed, run.cluster.wait_s)
        given = {name: os.environ[name] for name in variables if name in os.environ}
        common = (Shared(Path.cwd(), probe), Path(sys.argv[0]).absolute(), given, locks_s)
        every = [_place(ray, run, job, cpus, common) for job in jobs]
        with _ended(ray, head, every):
            while not all(one.ended for one in every):
                head.require()
                for one in every:
                    if not one.ended:
                        _look(ray, one)
                time.sleep(POLL_S)
    return every


def _place(ray: Any, run: Run, job: Job, cpus: float, common: tuple[Any, ...]) -> Placed:
    needed = {"num_cpus": cpus, "num_gpus": job.gpus, "resources": run.cluster.resources}
    kind = ray.remote(Runner).options(max_restarts=RESTARTS, scheduling_strategy="SPREAD", **needed)
    actor = kind.remote(job, *common)
    return Placed(job, actor, placement.Asked(ray, actor.state))


def _look(ray: Any, one: Placed) -> None:
    """Take note of what has become of a job."""
    name = f"job {one.job.number} ({one.job.name})"
    try:
        answer = one.asked.answer()
    except ray.exceptions.ActorUnavailableError:
        say(f"{name}: {one.where} was lost; it starts again on a machine that is free")
        one.where = ""
        return
    except ray.exceptions.RayError as error:
        one.fault = session.cause(error)
        say(f"{name} failed: {one.fault}")
        return
    if answer is None:
        return
    where, one.code = answer
    if where != one.where:
        one.where = where
        say(f"{name} runs on {where}, log {one.job.log}")
    if one.code is not None:
        say(f"{name} " + (f"failed with exit code {one.code}" if one.code else "finished"))
        ray.kill(one.actor)  # its machine is free for the next one


@contextlib.contextmanager
def _ended(ray: Any, head: session.Head, every: list[Placed]) -> Iterator[None]:
    """At the end of the block, no job runs any more."""
    try:
        yield
    finally:
        placement.end(ray, head, [one.actor for one in every if not one.ended])


def _needed(run: Run, job: Job, cpus: float) -> dict[str, float]:
    return {"CPU": cpus} | ({"GPU": float(job.gpus)} if job.gpus else {}) | run.cluster.resources


def _require(ray: Any, needed: dict[str, float], wait_s: float) -> None:
    """Wait until some machine has this, busy or not.

    Raises:
        ServerError: none has joined within ``wait_s``.
    """
    until = time.monotonic() + wait_s
    while True:
        alive = [node for node in ray.nodes() if node["Alive"]]
        if any(placement.holds(node["Resources"], needed) for node in alive):
            return
        if time.monotonic() > until:
            break
        time.sleep(POLL_S)
    there = "\n".join(placement.has(node, needed) for node in alive)
    raise ServerError(
        f"A job of this sweep needs a machine with {placement.told(needed)}, and the cluster has none:\n{there}\n"
        "Choose another machine (hardware=NAME), or fewer CPUs (hydra.launcher.cpus), or wait longer (cluster.wait_s)."
    )
