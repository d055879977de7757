"""The connection to a Ray cluster, and what must be there before anything is placed on it.

Ray places actors, watches machines and replaces what was lost. Everything else is ours. Whoever reaches a cluster
without a token can run programs on it (https://docs.ray.io/en/latest/ray-security/index.html), so such a cluster is
refused unless ``cluster.auth=none``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vd100k.config.run import Cluster, Run
from vd100k.console import say
from vd100k.errors import ServerError

INSTALL = "pip install -e '.[cluster]'"
TOKEN = "RAY_AUTH_MODE=token"
REACHED_S = 5.0
LOOKED_AT_EVERY_S = 5.0
HEAD_LOST_S = 15.0  # Ray ends this program without a word of ours after 60
POLL_S = 0.5
ROOM = 1e-6  # resources are fractions


def faults(cluster: Cluster) -> Iterator[str]:
    """Why no cluster can be used from here, before it is contacted."""
    if importlib.util.find_spec("ray") is None:
        yield f"cluster={cluster.name} needs Ray, which is not installed here: {INSTALL}"
    elif cluster.auth == "token" and os.environ.get("RAY_AUTH_MODE") != "token":
        yield (
            f"RAY_AUTH_MODE is not token, so anybody who reaches the cluster can run programs on it: start Ray on all "
            f"machines, and this program, with {TOKEN} (ray get-auth-token --generate makes a token), or accept it "
            "with cluster.auth=none"
        )


@contextlib.contextmanager
def connected(run: Run) -> Iterator[Any]:
    """The module ``ray``, connected to the run's cluster until the block ends; our actors end with it.

    Raises:
        ServerError: Ray is not installed, no cluster answers, or it is of another version.
    """
    if found := list(faults(run.cluster)):
        raise ServerError("\n".join(found))
    address = _address(run.cluster)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # takes half a second

    try:
        ray.init(
            address=address,
            namespace="vd100k",
            log_to_driver=False,
            configure_logging=False,
            runtime_env=_environment(run),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ServerError(
            f"The cluster at {address} cannot be used: {_first_line(error)}\nEvery machine needs the same versions of "
            f"Ray and Python as this one (Ray {ray.__version__}), and this machine must belong to the cluster."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _address(cluster: Cluster) -> str:
    """The address of the head, where something listens.

    Raises:
        ServerError: nothing does.
    """
    address = cluster.address
    if not address:
        return os.environ.get("RAY_ADDRESS") or "auto"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), REACHED_S).close()
    except (OSError, ValueError) as error:
        raise ServerError(
            f"cluster.address={address}: no cluster answers there ({error}). Start its head: "
            f"{TOKEN} ray start --head --node-ip-address HOST --port {port or 6379}"
        ) from error
    return address


class Head:
    """The head of the cluster, without which no machine is replaced and all leave after a minute."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._seen = self._looked_at = time.monotonic()

    @property
    def answers(self) -> bool:
        """Whether something listens there."""
        with contextlib.suppress(OSError):
            socket.create_connection(self._address, 1).close()
            return True
        return False

    def require(self) -> None:
        """Look from time to time whether it is there.

        Raises:
            ServerError: it has not answered for ``HEAD_LOST_S``.
        """
        now = time.monotonic()
        if now - self._looked_at < LOOKED_AT_EVERY_S:
            return
        self._looked_at = now
        if self.answers:
            self._seen = now
        elif now - self._seen > HEAD_LOST_S:
            raise ServerError(
                f"The head of the cluster at {':'.join(map(str, self._address))} has not answered for "
                f"{HEAD_LOST_S:.0f} s, and the machines of the cluster are lost with it. Start the cluster again, then "
                "run the same command: all answers are kept."
            )


def _environment(run: Run) -> dict[str, Any]:
    """What our processes get on the machines; Ray would kill their children without letting them end theirs."""
    environment: dict[str, Any] = {"env_vars": {"RAY_kill_child_processes_on_worker_exit": "0"}}
    return environment | ({"py_executable": run.cluster.python} if run.cluster.python else {})


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def bundle(run: Run) -> dict[str, float]:
    """What a machine must have for its part of the run, in Ray's names."""
    gpus = run.hardware.replicas * run.hardware.gpus_per_replica
    return {"CPU": 1.0} | ({"GPU": float(gpus)} if gpus else {}) | run.cluster.resources


def require(run: Run, ray: Any) -> None:
    """Wait until enough machines have room.

    Raises:
        ServerError: they do not exist, or have none within ``cluster.wait_s``.
    """
    cluster, wanted, said = run.cluster, bundle(run), False
    until = time.monotonic() + cluster.wait_s
    while True:
        alive = [node for node in ray.nodes() if node["Alive"]]
        fit = [node for node in alive if _holds(node["Resources"], wanted)]
        free = ray._private.state.available_resources_per_node()
        if sum(_holds(free.get(node["NodeID"], {}), wanted) for node in fit) >= cluster.nodes:
            return
        if time.monotonic() > until:
            raise ServerError(_too_few(run, alive, fit, wanted))
        if not said:
            said = True
            say(f"waiting up to {cluster.wait_s:.0f} s (cluster.wait_s): {_needed(run, wanted)} are not free yet")
        time.sleep(POLL_S)


def _holds(there: dict[str, float], wanted: dict[str, float]) -> bool:
    return all(there.get(name, 0) + ROOM >= amount for name, amount in wanted.items())


def _too_few(run: Run, alive: list[dict[str, Any]], fit: list[dict[str, Any]], wanted: dict[str, float]) -> str:
    there = "\n".join(
        f"  - {node['NodeManagerAddress']}: {told({name: node['Resources'].get(name, 0.0) for name in wanted})}"
        for node in alive
    )
    how = "are busy" if len(fit) >= run.cluster.nodes else "do not exist"
    return (
        f"{_needed(run, wanted)} are needed for hardware={run.hardware.name}, but {how}. {len(fit)} of the "
        f"{len(alive)} machines of the cluster have that:\n{there}\nChoose fewer machines (cluster.nodes), another "
        "machine (hardware=NAME) or fewer replicas (hardware.replicas), or wait longer (cluster.wait_s)."
    )


def _needed(run: Run, wanted: dict[str, float]) -> str:
    return f"{run.cluster.nodes} machines with {told(wanted)} each"


def told(resources: dict[str, float]) -> str:
    """Resources as text: 1 CPU, 4 GPU."""
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items())


@contextlib.contextmanager
def probe(folder: Path) -> Iterator[Path]:
    """A file by which a machine recognises that it sees this folder; removed when the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.absolute() / f".shared-{secrets.token_hex(8)}"
    file.touch()
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
