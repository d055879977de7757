"""Actors of ours on machines of the cluster, one on each, with the resources that a run needs there."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vd100k.cluster import session
from vd100k.config.run import Run
from vd100k.console import say
from vd100k.errors import ServerError
from vd100k.io.redaction import remember

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


@dataclass(frozen=True)
class Room:
    """Room for ``count`` actors with ``each``, in Ray's names: on as many machines, or anywhere if not ``apart``.

    ``noun`` and ``reason`` are the words of messages: 4 *machines* are needed for *hardware=t4x4*.
    """

    count: int
    each: dict[str, float]
    noun: str
    reason: str
    remedy: str
    apart: bool = True

    def on(self, there: dict[str, float]) -> int:
        """How many of the actors a machine with these resources has room for."""
        fit = min(int((there.get(name, 0) + ROOM) / amount) for name, amount in self.each.items())
        return min(fit, 1) if self.apart else fit

    def __str__(self) -> str:
        return f"{self.count} {self.noun} with {told(self.each)} each"


class Asked:
    """A question that an actor is asked again and again, without ever waiting for the answer."""

    def __init__(self, ray: Any, method: Any, every_s: float = ASKED_EVERY_S) -> None:
        self._ray, self._method, self._every_s = ray, method, every_s
        self._pending: Any = None
        self._due = 0.0

    def answer(self, *arguments: Any) -> Any:
        """The answer if one has arrived since the last call, otherwise None; ``arguments`` are those of a new question.

        Raises:
            RayError: the actor is lost, or it failed.
        """
        now = time.monotonic()
        if self._pending is None and now >= self._due:
            self._pending, self._due = self._method.remote(*arguments), now + self._every_s
        if self._pending is None or not self._ray.wait([self._pending], timeout=0)[0]:
            return None
        arrived, self._pending = self._pending, None
        return self._ray.get(arrived)


@contextlib.contextmanager
def placed(run: Run, kind: type, room: Room, restarts: int, *arguments: Any) -> Iterator[Placed]:
    """An actor ``kind(number, shared, *arguments)`` for each place of the ``room``.

    It is started again, there or on another machine, as often as ``restarts`` says (-1: always). Leaving the block
    calls ``stop`` of all actors, waits for them, and gives the machines back.

    Raises:
        ServerError: there is no such cluster, or it has no such room.
    """
    with session.probe(run.output_dir) as probe, session.connected(run) as ray:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        _await_room(run, ray, room)
        strategy = "STRICT_SPREAD" if room.apart else "SPREAD"
        group = ray.util.placement_group([room.each] * room.count, strategy=strategy)
        named = {"num_cpus": room.each["CPU"], "num_gpus": room.each.get("GPU", 0)}
        others = {name: amount for name, amount in room.each.items() if name not in ("CPU", "GPU")}
        actors = []
        for number in range(room.count):
            where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number)
            settings = {"max_restarts": restarts, "scheduling_strategy": where, "resources": others}
            actor = ray.remote(kind).options(**settings, **named)
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


def machines(run: Run, gpus: int) -> Room:
    """Room for one actor on each of ``cluster.nodes`` machines, which gets ``gpus`` GPUs."""
    each = {"CPU": 1.0} | ({"GPU": float(gpus)} if gpus else {}) | run.cluster.resources
    remedy = "Choose fewer machines (cluster.nodes) or another machine (hardware=NAME)"
    return Room(run.cluster.nodes, each, "machines", f"hardware={run.hardware.name}", remedy)


def _await_room(run: Run, ray: Any, room: Room) -> None:
    """Wait until there is enough room.

    Raises:
        ServerError: the cluster does not have it, or not within ``cluster.wait_s``.
    """
    cluster, said = run.cluster, False
    until = time.monotonic() + cluster.wait_s
    while True:
        alive = [node for node in ray.nodes() if node["Alive"]]
        free = ray._private.state.available_resources_per_node()
        if sum(room.on(free.get(node["NodeID"], {})) for node in alive) >= room.count:
            return
        if time.monotonic() > until:
            raise ServerError(_too_little(room, alive))
        if not said:
            said = True
            say(f"waiting up to {cluster.wait_s:.0f} s (cluster.wait_s): {room} are not free yet")
        time.sleep(POLL_S)


def holds(there: dict[str, float], wanted: dict[str, float]) -> bool:
    """Whether a machine has at least this."""
    return all(there.get(name, 0) + ROOM >= amount for name, amount in wanted.items())


def _too_little(room: Room, alive: list[dict[str, Any]]) -> str:
    there = "\n".join(has(node, room.each) for node in alive)
    fit = [count for node in alive if (count := room.on(node["Resources"]))]
    how = "are busy" if sum(fit) >= room.count else "do not exist"
    return (
        f"{room} are needed for {room.reason}, but {how}. {len(fit)} of the {len(alive)} machines of the cluster have "
        f"that:\n{there}\n{room.remedy}, or wait longer (cluster.wait_s)."
    )


def has(node: dict[str, Any], wanted: dict[str, float]) -> str:
    """A line on what a machine has of this."""
    return f"  - {node['NodeManagerAddress']}: {told({name: node['Resources'].get(name, 0.0) for name in wanted})}"


def told(resources: dict[str, float]) -> str:
    """Resources as text: 1 CPU, 4 GPU."""
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items())


def equip(run: Run, variables: dict[str, str]) -> None:
    """Give this process, an actor of the run, environment variables of the command, and hide the run's secrets."""
    os.environ.update(variables)
    remember(run.model_dump(mode="json"))


def enter(shared: Shared) -> None:
    """Work in the folder that the run was started in; called by an actor on its machine.

    Raises:
        ServerError: this machine does not see the folder, or not that of the command.
    """
    if not shared.probe.exists():
        raise ServerError(
            f"{shared.probe.parent} is not the same folder there as on the machine that started the run: set "
            "output_dir to a folder that all machines share."
        )
    try:
        os.chdir(shared.cwd)
    except OSError as error:
        raise ServerError(
            f"{shared.cwd}, the folder of the command, cannot be entered on {address()} ({error.strerror}): start the "
            "command in a folder that all machines share."
        ) from error


def address() -> str:
    """The address at which the other machines of the cluster reach this one."""
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())
