"""A training on several machines: ms-swift on each, as its torchrun wants it, and all of them ended when one fails.

No time-out of torch.distributed is relied on: when a cable is cut, all ranks hang (``--ddp_timeout`` is dropped on
CPUs, and its default is 208 days). So this process watches every machine, and ends all of them when one exits with an
error or is lost. The same command then resumes from the last checkpoint.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import psutil

from vd100k.cluster import placement, session
from vd100k.cluster.placement import Placed, Shared, address, enter
from vd100k.config.run import Run
from vd100k.config.stages import Finetune
from vd100k.engines import commands
from vd100k.engines.commands import Command
from vd100k.engines.process import Child
from vd100k.errors import TrainingError

LOST = -1  # the exit code of a machine that was lost


class Training(Protocol):
    """A training that runs: a child here, or one on each machine."""

    def exit_code(self) -> int | None: ...
    def last_words(self, name: str) -> str: ...


@contextlib.contextmanager
def started(run: Run, stage: Finetune, checkpoints: Path, resume_from: Path | None, log: Path) -> Iterator[Training]:
    """ms-swift, which writes its checkpoints, on this machine or on those that ``cluster`` chooses.

    The log of machine 0 is ``log``, those of the others are beside it.

    Raises:
        ServerError: there is no such cluster, or it has too few machines.
        TrainingError: ms-swift cannot be started on a machine.
    """
    if run.cluster.here:
        with Child(commands.train(stage, checkpoints, resume_from), log) as child:
            yield child
        return
    arguments = (stage, checkpoints.absolute(), resume_from and resume_from.absolute(), log.absolute())
    with placement.placed(run, Trainer, placement.machines(run, devices(stage)), 0, *arguments) as machines:
        yield Ranks(machines)


def devices(stage: Finetune) -> int:
    """How many GPUs each machine gives: as many as ``stage.cuda_devices`` names."""
    return len(str(stage.cuda_devices).split(",")) if stage.cuda_devices is not None else 0


def command(
    stage: Finetune, checkpoints: Path, resume_from: Path | None, nodes: int, rank: int, master: str, interface: str
) -> Command:
    """The command of one machine; ``master`` is HOST:PORT, where the ranks meet.

    The ranks talk through ``interface``: Gloo and NCCL would choose one by the name of the machine, which often means
    127.0.0.1. Without ``use_cpu``, ms-swift would train a model of its own in each process of a machine without GPUs.
    """
    host, _, port = master.rpartition(":")
    args = stage.args if devices(stage) else {"use_cpu": True} | stage.args
    here = {"cuda_devices": None, "args": args}  # Ray says which devices there are
    meeting = {"NNODES": str(nodes), "NODE_RANK": str(rank), "MASTER_ADDR": host, "MASTER_PORT": port}
    talking = {f"{library}_SOCKET_IFNAME": interface for library in ("GLOO", "NCCL")}
    plain = commands.train(stage.model_copy(update=here), checkpoints, resume_from)
    processes = {"NPROC_PER_NODE": str(devices(stage) or 1)}
    inherits = [*plain.inherits, "CUDA_VISIBLE_DEVICES"]
    return replace(plain, env=processes | talking | plain.env | meeting, inherits=inherits)


def describe(run: Run, stage: Finetune, checkpoints: Path) -> list[str]:
    """The lines of a dry run."""
    nodes = run.cluster.nodes
    if run.cluster.here:
        return [str(commands.train(stage, checkpoints))]
    needed = placement.told(placement.machines(run, devices(stage)).each)
    ranks = [command(stage, checkpoints, None, nodes, rank, "ADDRESS-0:PORT", "INTERFACE") for rank in range(nodes)]
    return [f"on each of {nodes} machines of the cluster with {needed}:", *map(str, ranks)]


class Trainer:
    """Our process on a machine that trains; ``number`` is the rank of the machine."""

    def __init__(
        self, number: int, shared: Shared, stage: Finetune, checkpoints: Path, resume_from: Path | None, log: Path
    ) -> None:
        self._number, self._shared = number, shared
        self._stage, self._checkpoints, self._resume_from = stage, checkpoints, resume_from
        self._log = log if not number else log.with_name(f"{log.stem}-machine-{number}.log")
        self._child: Child | None = None

    def meet(self) -> tuple[str, list[str]]:
        """An address with a free port here, and why ms-swift cannot run on this machine."""
        enter(self._shared)
        with socket.socket() as probe:
            probe.bind(("", 0))
            return f"{address()}:{probe.getsockname()[1]}", commands.swift_faults()

    def start(self, nodes: int, master: str) -> None:
        wanted = (nodes, self._number, master, _interface(address()))
        self._child = Child(command(self._stage, self._checkpoints, self._resume_from, *wanted), self._log)

    def state(self) -> tuple[int | None, str]:
        """The exit code, None while it trains, and the end of the log if it failed."""
        code = self._child.exit_code() if self._child else None
        return code, self._child.last_words("swift") if self._child and code else ""

    def stop(self) -> None:
        if self._child:
            self._child.stop()


class Ranks:
    """The trainings of all machines, seen as one: its exit code is the first one that is not 0."""

    def __init__(self, machines: Placed) -> None:
        self._machines = machines
        self._words = ""
        self._codes: dict[int, int] = {}
        self._start()
        self._states = [placement.Asked(machines.ray, actor.state) for actor in machines.actors]

    def exit_code(self) -> int | None:
        """None while all train; 0 when all have finished."""
        self._machines.head.require()
        for rank, state in enumerate(self._states):
            if rank not in self._codes:
                self._ask(rank, state)
        failed = [code for code in self._codes.values() if code]
        finished = len(self._codes) == len(self._machines.actors)
        return failed[0] if failed else 0 if finished else None

    def last_words(self, name: str) -> str:
        """What ended the training, as text for an error message."""
        return f"{name}: {self._words}"

    def _start(self) -> None:
        ray, actors = self._machines.ray, self._machines.actors
        try:
            met = ray.get([actor.meet.remote() for actor in actors])
        except ray.exceptions.RayError as error:
            raise TrainingError(f"A machine of the cluster cannot train: {session.cause(error)}") from error
        faults = [f"{where}: {fault}" for where, found in met for fault in found]
        if faults:
            raise TrainingError("\n".join(faults))
        self._where = [where.rpartition(":")[0] for where, _ in met]
        ray.get([actor.start.remote(len(actors), met[0][0]) for actor in actors])

    def _ask(self, rank: int, state: placement.Asked) -> None:
        """Take note of a machine that has finished, failed or been lost."""
        try:
            code, words = state.answer() or (None, "")
        except self._machines.ray.exceptions.RayError as error:
            code, words = LOST, f"was lost: {session.cause(error)}"
        if code is not None:
            self._codes[rank] = code
        if code and not self._words:
            ends = "The training on the other machines was ended; the same command resumes from the last checkpoint."
            self._words = f"machine {rank} ({self._where[rank]}) {words}\n{ends}"


def _interface(wanted: str) -> str:
    """The network interface of this machine that has an address."""
    every = psutil.net_if_addrs().items()
    return next(name for name, found in every for one in found if one.address == wanted)
