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
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vd100k.config.run import Cluster, Run
from vd100k.errors import ServerError

INSTALL = "pip install -e '.[cluster]'"
TOKEN = "RAY_AUTH_MODE=token"
# No statistics about us, and none for Ray's dashboard, which a connection to a lost head would try to send at its end.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_task_events_report_interval_ms": "0"} | {
    "RAY_enable_metrics_collection": "0"
}
REACHED_S = 5.0
LOOKED_AT_EVERY_S = 5.0
HEAD_LOST_S = 15.0  # Ray ends this program without a word of ours after 60


def faults(cluster: Cluster) -> Iterator[str]:
    """Why no cluster can be used from here, before it is contacted."""
    if importlib.util.find_spec("ray") is None:
        yield f"cluster=ray and hydra/launcher=ray need Ray, which is not installed here: {INSTALL}"
    elif cluster.auth == "token" and os.environ.get("RAY_AUTH_MODE") != "token":
        yield (
            f"RAY_AUTH_MODE is not token, so anybody who reaches the cluster can run programs on it: start Ray on all "
            f"machines, and this program, with {TOKEN} (ray get-auth-token --generate makes a token), or accept it "
            "with cluster.auth=none"
        )


@contextlib.contextmanager
def connected(run: Run) -> Iterator[Any]:
    """The module ``ray``, connected to the run's cluster until the outermost such block ends; our actors end with it.

    Raises:
        ServerError: Ray is not installed, no cluster answers, or it is of another version.
    """
    if found := list(faults(run.cluster)):
        raise ServerError("\n".join(found))
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray  # takes half a second

    if ray.is_initialized():  # for the servers that the drivers of this run ask
        yield ray
        return
    address = _address(run.cluster)
    try:
        with _our_signals():
            ray.init(
                address=address,
                namespace="vd100k",
                log_to_driver=False,
                configure_logging=False,
                runtime_env=_environment(run),
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ServerError(
            f"The cluster at {address} cannot be used: {cause(error)}\nEvery machine needs the same versions of "
            f"Ray and Python as this one (Ray {ray.__version__}), and this machine must belong to the cluster."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _our_signals() -> Iterator[None]:
    """SIGTERM means afterwards what it meant before: Ray would let it end this process with exit code 15."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


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


def cause(error: Exception) -> str:
    """The first line of what an error of Ray's is about."""
    lines = [line.strip() for line in str(getattr(error, "cause", None) or error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


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
