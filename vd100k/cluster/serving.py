"""The servers of a run's model on the machines of a cluster, or on this machine if there is no cluster.

Each machine has an actor (``cluster.machine``) that serves there as one machine would. This process asks each actor
for the states of its replicas, so a fleet and its front see replicas of other machines as they see their own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from vd100k.cluster import placement
from vd100k.cluster.machine import Machine, Seen
from vd100k.config.run import Run
from vd100k.engines import commands
from vd100k.engines.commands import Command
from vd100k.engines.serving import fleet as local
from vd100k.engines.serving.fleet import Fleet, backends
from vd100k.engines.serving.http_api import api_key
from vd100k.engines.serving.nginx import Backend
from vd100k.engines.serving.supervisor import Program, State, Supervised
from vd100k.errors import ServerError

# What asks for the servers of a run; logs go to the folder.
Servers = Callable[[Run, Path], contextlib.AbstractContextManager[Fleet]]


def fleet(run: Run, logs: Path, front: bool = False) -> contextlib.AbstractContextManager[Fleet]:
    """The servers of the run's model, as ``engines.serving.fleet.fleet``, on the machines that ``cluster`` chooses."""
    if run.cluster.here or run.hardware.urls is not None:
        return local.fleet(run, logs, front)
    return start(run, logs, balanced=front)


@contextlib.contextmanager
def shared() -> Iterator[Servers]:
    """A function like ``fleet`` whose servers, once there are any, serve every later call within the block."""
    with contextlib.ExitStack() as stack:
        found: list[Fleet] = []

        @contextlib.contextmanager
        def servers(run: Run, logs: Path) -> Iterator[Fleet]:
            if not found:
                found.append(stack.enter_context(fleet(run, logs)))
            yield found[0]

        yield servers


@contextlib.contextmanager
def start(
    run: Run, logs: Path, balanced: bool = False, changed: Callable[[Fleet], None] = lambda fleet: None
) -> Iterator[Fleet]:
    """Start all replicas, as ``engines.serving.fleet.start``, on the machines that ``cluster`` chooses.

    Raises:
        ServerError: there is no such cluster, it has too few machines, or see there.
    """
    if run.cluster.nodes_per_replica > 1:
        raise ServerError(
            f"cluster.nodes_per_replica={run.cluster.nodes_per_replica}: replicas that machines share are not started "
            "from here: dry_run=true shows the command to run on each machine, and hardware=api asks the first one."
        )
    if run.cluster.here:
        with local.start(run, logs, balanced, changed) as started:
            yield started
        return
    front = _Front(changed)
    with local.start(whole(run), logs, balanced, front.changed, functools.partial(_machines, run)) as started:
        yield started


def describe(run: Run) -> list[str]:
    """The lines of a dry run about the servers: the given URLs, or the commands of the replicas to start."""
    if run.cluster.here or run.hardware.urls is not None:
        return commands.describe_server(run)
    return placed(run)


def placed(run: Run) -> list[str]:
    """The lines of a dry run about the machines: what each must have, and the commands of its replicas."""
    there = run.model_copy(update={"hardware": run.hardware.model_copy(update={"host": "ADDRESS", "balancer": "none"})})
    nodes, needed = run.cluster.nodes, placement.told(placement.machines(run, _gpus(run)).each)
    if (each := run.cluster.nodes_per_replica) > 1:
        heading = f"{nodes // each} replicas, each shared by {each} machines with {needed}, which are to run:"
        return [heading, *map(str, commands.shared_replica(there, "ADDRESS-0"))]
    return [
        f"on each of {nodes} machines of the cluster with {needed}, {nodes * run.hardware.replicas} replicas in all:",
        *map(str, commands.replicas(there)),
    ]


def placeholders(run: Run) -> list[Backend] | None:
    """What stands for all replicas in nginx's files of a dry run; None if they run on this machine."""
    first, hardware = run.hardware.port or 0, run.hardware
    if run.cluster.here:
        return None
    firsts = range(0, run.cluster.nodes, run.cluster.nodes_per_replica)
    return [Backend(f"ADDRESS-{node}:{first + k}") for node in firsts for k in range(hardware.replicas)]


def keys(run: Run) -> dict[str, str]:
    """The API key that requests send, by the name of its environment variable, for our processes on the machines."""
    name, key = run.model.api_key_env, api_key(run)
    return {name: key} if name and key else {}


def whole(run: Run) -> Run:
    """The run with the replicas of all machines, as its front sees them."""
    hardware = run.hardware
    places = run.cluster.nodes // run.cluster.nodes_per_replica
    shares = hardware.replica_weights and hardware.replica_weights * places
    changes = {"replicas": hardware.replicas * places, "replica_weights": shares}
    return run.model_copy(update={"hardware": hardware.model_copy(update=changes)})


class _Front:
    """Lets nginx send requests to the replicas that are ready, wherever they are; it finishes what it has sent."""

    def __init__(self, changed: Callable[[Fleet], None]) -> None:
        self._changed = changed
        self._listed: list[Backend] = []

    def changed(self, fleet: Fleet) -> None:
        listed = backends(fleet)
        if fleet.balancer and fleet.balancer.state == "ready" and fleet.balancer.pid and listed != self._listed:
            fleet.relist(listed)
            os.kill(fleet.balancer.pid, signal.SIGHUP)
            self._listed = listed
        self._changed(fleet)


def _machines(run: Run, _: Run, logs: Path, stack: contextlib.ExitStack) -> list[Supervised]:
    """Place an actor on each machine; the services are the replicas that they serve, in their order."""
    room = placement.machines(run, _gpus(run))
    machines = stack.enter_context(placement.placed(run, Machine, room, -1, run, logs.absolute(), keys(run)))
    views = [MachineView(machines, number) for number in range(run.cluster.nodes)]
    return [Replica(run, view, k) for view in views for k in range(run.hardware.replicas)]


def _gpus(run: Run) -> int:
    return run.hardware.replicas * run.hardware.gpus_per_replica


class MachineView:
    """What this process knows about a machine of the cluster, from the last answer of its actor."""

    def __init__(self, machines: placement.Placed, number: int) -> None:
        self.number = number
        self.address = self.error = ""
        self.replicas: list[Seen] = []
        self.losses = 0
        self.lost = False
        self._lost, self._head = machines.ray.exceptions.RayError, machines.head
        self._seen = placement.Asked(machines.ray, machines.actors[number].seen)

    def refresh(self) -> None:
        """Take the actor's answer if there is one, and ask it again after a while; never waits.

        Raises:
            ServerError: the cluster has lost its head.
        """
        self._head.require()
        try:
            if seen := self._seen.answer():
                self.address, self.error, self.replicas = seen
                self.lost = False
        except self._lost:
            self.losses += not self.lost
            self.lost, self.replicas = True, []


class Replica:
    """A replica on another machine, as ``engines.serving.supervisor.Service`` is one on this machine."""

    pid = None  # of another machine

    def __init__(self, run: Run, machine: MachineView, k: int) -> None:
        self.program = Program(f"machine {machine.number}, replica {k}", Command([]), 0, "", Path(), lambda: False)
        self.state: State = "loading"
        self.restarts = 0
        self.was_ready = False
        self.last_words = ""
        self._machine, self._k = machine, k
        self._until = time.monotonic() + run.cluster.wait_s + run.hardware.start_timeout_s

    def poll(self) -> str | None:
        """Take over what the machine says; returns a message if the state changed, otherwise None."""
        self._machine.refresh()
        before, self.state = self.state, self._state()
        if self.state == before:
            return None
        self.was_ready |= self.state == "ready"
        where = f"{self.program.name} on {self._machine.address}"
        if self.state == "ready":
            return f"{where} answers: {self.program.url}"
        return f"{where}: {self.state}. {self.last_words}".rstrip(". ") + "."

    def terminate(self) -> None:
        """Nothing: all replicas of a machine are ended together."""

    def _state(self) -> State:
        machine = self._machine
        if machine.error:
            self.last_words = f"{self.program.name} on {machine.address} cannot serve: {machine.error}"
            return "failed"
        if machine.lost:
            self.last_words = "The machine was lost: it is used again when it is back, or another one that is free"
            self.restarts = machine.losses
            return "restarting"
        if self._k >= len(machine.replicas):
            if not self.was_ready and time.monotonic() > self._until:
                self.last_words = f"{self.program.name} was not placed on any machine in time (cluster.wait_s)"
                return "failed"
            return "loading" if not machine.losses else "restarting"
        seen = machine.replicas[self._k]
        self.program = replace(self.program, url=seen.url, log=Path(seen.log))
        self.last_words = seen.last_words
        self.restarts = machine.losses + seen.restarts
        return seen.state
