"""Actors of ours on machines of the cluster, one on each, with the resources that a run needs there."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vd100k.cluster import session
from vd100k.config.run import Run
from vd100k.console import say
from vd100k.errors import ServerError

POLL_S = 0.5
ASKED_EVERY_S = 0.5
ROOM = 1e-6  # resources are fractions
THERE_S = 3.0
STOPPED_S = 20.0  # the guard of a program needs ten


class Shared(NamedTuple):
    """What an actor gets to know of the machine that started the run."""

    cwd: Path  # relative paths are meant from there
    probe: Path  # a file in a folder that all machines share


class Placed(NamedTuple):
    """The module ``ray``, the head of the cluster, and the actors, one a machine."""

    ray: Any
    head: session.Head
    actors: list[Any]


class Asked:
    """A question that an actor is asked again and again, without ever waiting for the answer."""

    def __init__(self, ray: Any, method: Any) -> None:
        self._ray, self._method = ray, method
        self._pending: Any = None
        self._due = 0.0

    def answer(self) -> Any:
        """The answer if one has arrived since the last call, otherwise None.

        Raises:
            RayError: the actor is lost, or it failed.
        """
        now = time.monotonic()
        if self._pending is None and now >= self._due:
            self._pending, self._due = self._method.remote(), now + ASKED_EVERY_S
        if self._pending is None or not self._ray.wait([self._pending], timeout=0)[0]:
            return None
        arrived, self._pending = self._pending, None
        return self._ray.get(arrived)


@contextlib.contextmanager
def placed(run: Run, kind: type, gpus: int, restarts: int, *arguments: Any) -> Iterator[Placed]:
    """An actor ``kind(number, shared, *arguments)`` on each of ``cluster.nodes`` machines, which gets ``gpus`` GPUs.

    It is started again, there or on another machine, as often as ``restarts`` says (-1: always). Leaving the block
    calls ``stop`` of all actors, waits for them, and gives the machines back.

    Raises:
        ServerError: there is no such cluster, or it has too few machines.
    """
    with session.probe(run.output_dir) as probe, session.connected(run) as ray:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        wanted = bundle(run, gpus)
        _await_room(run, ray, wanted)
        group = ray.util.placement_group([wanted] * run.cluster.nodes, strategy="STRICT_SPREAD")
        settings = {"num_cpus": wanted["CPU"], "num_gpus": gpus, "resources": run.cluster.resources}
        actors = []
        for number in range(run.cluster.nodes):
            where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number)
            actor = ray.remote(kind).options(max_restarts=restarts, scheduling_strategy=where, **settings)
            actors.append(actor.remote(number, Shared(Path.cwd(), probe), *arguments))
        head = session.Head(ray.get_runtime_context().gcs_address)
        try:
            yield Placed(ray, head, actors)
        finally:
            end(ray, head, actors)
            if head.answers:
                ray.util.remove_placement_group(group)


def end(ray: Any, head: session.Head, actors: list[Any]) -> None:
    """Call ``stop`` of all actors and wait for those that are there, then give their machines back.

    The head says at once that an actor is lost with its machine. Without a head, nobody does, so an actor that does
    not respond soon is not waited for; it ends with its connection to the cluster.
    """
    asked = {actor.__ray_ready__.remote(): actor for actor in actors}
    seconds = STOPPED_S if head.answers else THERE_S
    there = ray.wait([*asked], num_returns=len(asked), timeout=seconds)[0] if asked else []
    stopping = [asked[one].stop.remote() for one in there]
    if stopping:
        ray.wait(stopping, num_returns=len(stopping), timeout=STOPPED_S)
    if head.answers:  # otherwise, these calls would wait for it
        for actor in actors:
            ray.kill(actor)


def bundle(run: Run, gpus: int) -> dict[str, float]:
    """What a machine must have for its part of the run, in Ray's names."""
    return {"CPU": 1.0} | ({"GPU": float(gpus)} if gpus else {}) | run.cluster.resources


def _await_room(run: Run, ray: Any, wanted: dict[str, float]) -> None:
    """Wait until enough machines have room.

    Raises:
        ServerError: they do not exist, or have none within ``cluster.wait_s``.
    """
    cluster, said = run.cluster, False
    until = time.monotonic() + cluster.wait_s
    while True:
        alive = [node for node in ray.nodes() if node["Alive"]]
        fit = [node for node in alive if holds(node["Resources"], wanted)]
        free = ray._private.state.available_resources_per_node()
        if sum(holds(free.get(node["NodeID"], {}), wanted) for node in fit) >= cluster.nodes:
            return
        if time.monotonic() > until:
            raise ServerError(_too_few(run, alive, fit, wanted))
        if not said:
            said = True
            say(f"waiting up to {cluster.wait_s:.0f} s (cluster.wait_s): {_needed(run, wanted)} are not free yet")
        time.sleep(POLL_S)


def holds(there: dict[str, float], wanted: dict[str, float]) -> bool:
    """Whether a machine has at least this."""
    return all(there.get(name, 0) + ROOM >= amount for name, amount in wanted.items())


def _too_few(run: Run, alive: list[dict[str, Any]], fit: list[dict[str, Any]], wanted: dict[str, float]) -> str:
    there = "\n".join(has(node, wanted) for node in alive)
    how = "are busy" if len(fit) >= run.cluster.nodes else "do not exist"
    return (
        f"{_needed(run, wanted)} are needed for hardware={run.hardware.name}, but {how}. {len(fit)} of the "
        f"{len(alive)} machines of the cluster have that:\n{there}\nChoose fewer machines (cluster.nodes) or another "
        "machine (hardware=NAME), or wait longer (cluster.wait_s)."
    )


def has(node: dict[str, Any], wanted: dict[str, float]) -> str:
    """A line on what a machine has of this."""
    return f"  - {node['NodeManagerAddress']}: {told({name: node['Resources'].get(name, 0.0) for name in wanted})}"


def _needed(run: Run, wanted: dict[str, float]) -> str:
    return f"{run.cluster.nodes} machines with {told(wanted)} each"


def told(resources: dict[str, float]) -> str:
    """Resources as text: 1 CPU, 4 GPU."""
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items())


def enter(shared: Shared) -> None:
    """Work in the folder that the run was started in; called by an actor on its machine.

    Raises:
        ServerError: this machine does not see the folder.
    """
    if not shared.probe.exists():
        raise ServerError(
            f"{shared.probe.parent} is not the same folder there as on the machine that started the run: set "
            "output_dir to a folder that all machines share."
        )
    os.chdir(shared.cwd)


def address() -> str:
    """The address at which the other machines of the cluster reach this one."""
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())
