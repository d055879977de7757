"""Our process on a machine of the cluster: it serves there what ``stage=serve`` would serve on one machine.

Interpreter, address, ports, devices and model folder are those of that machine. Ray says which GPUs it may use
(``CUDA_VISIBLE_DEVICES``), and starts this process again, there or on another machine, when it is lost.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

from vd100k.cluster.placement import Shared, address, enter, equip
from vd100k.config.run import Run
from vd100k.engines.serving.fleet import Fleet, start
from vd100k.engines.serving.ports import binding_error
from vd100k.engines.serving.supervisor import State
from vd100k.errors import Vd100kError

PORTS = 200  # tried after the first one
CHECKED_EVERY_S = 0.5


class Seen(NamedTuple):
    """The state of a replica as its machine sees it."""

    name: str
    state: State
    url: str
    restarts: int
    log: str
    last_words: str


class _Ended(Exception):
    """The machine was told to stop."""


class Machine:
    """Serves the replicas of one machine from its creation on.

    ``number`` counts the machines of a run from 0; ``keys`` has the API keys by the names of their environment
    variables.
    """

    def __init__(self, number: int, shared: Shared, run: Run, logs: Path, keys: dict[str, str]) -> None:
        equip(run, keys)
        self.error = ""
        self._ended = threading.Event()
        self._fleet = Fleet()
        self._seen: list[Seen] = []
        self._thread = threading.Thread(target=self._serve, args=(number, shared, run, logs), daemon=True)
        self._thread.start()

    def seen(self) -> tuple[str, str, list[Seen]]:
        """The address of this machine, why it cannot serve (empty if it can), and its replicas."""
        return address(), self.error, self._seen

    def stop(self) -> None:
        """End all replicas, also those that still load, and wait for them."""
        self._ended.set()
        for replica in self._fleet.replicas:
            replica.terminate()
        self._thread.join()

    def _serve(self, number: int, shared: Shared, run: Run, logs: Path) -> None:
        try:
            enter(shared)
            folder = logs / f"machine-{number}"
            folder.mkdir(parents=True, exist_ok=True)
            with start(here(run), folder, changed=self._note) as fleet:
                while not self._ended.wait(CHECKED_EVERY_S):
                    if fleet.error:  # nobody would start a replica again that exits
                        raise fleet.error
        except _Ended:
            return
        except Exception as error:  # told by ``seen``: nobody waits for this thread
            self.error = str(error) if isinstance(error, Vd100kError) else f"{type(error).__name__}: {error}"

    def _note(self, fleet: Fleet) -> None:
        if self._ended.is_set():  # leave ``start``, which would wait for replicas that load
            raise _Ended
        self._fleet = fleet
        self._seen = [
            Seen(one.program.name, one.state, one.program.url, one.restarts, str(one.program.log), one.last_words)
            for one in fleet.replicas
        ]


def here(run: Run) -> Run:
    """The run as this machine alone would serve it, at its address and at ports that are free."""
    hardware = run.hardware.model_copy(update={"host": address(), "balancer": "none"})
    first = next(
        (port for port in range(hardware.port or 0, (hardware.port or 0) + PORTS) if _free(port, hardware.replicas)),
        hardware.port,
    )
    return run.model_copy(update={"hardware": hardware.model_copy(update={"port": first})})


def _free(first: int, count: int) -> bool:
    return all(binding_error(port) is None for port in range(first, first + count))
