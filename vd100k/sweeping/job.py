"""A job of a sweep: the command line that runs it alone, and what it needs on a machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vd100k.cluster import training
from vd100k.config.run import Hardware, Run
from vd100k.config.stages import Finetune

SERVING = {"generate", "serve", "chat", "parity"}  # stages that start the servers of their model
ROLES = ("", "teacher.", "judge.")  # prefixes of hardware.port


@dataclass(frozen=True)
class Job:
    """``number`` counts from 0; ``arguments`` are those of ``run.py``; its files are in ``folder``.

    ``ports`` has the number of consecutive ports that begin at the value of each key. ``gpus`` is what it needs of
    them at one time.
    """

    number: int
    name: str
    arguments: list[str]
    folder: Path
    gpus: int = 0
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.folder / "job.log"

    def command(self, ports: Mapping[str, int | str]) -> list[str]:
        """The arguments with the ports that were chosen on its machine."""
        return [*self.arguments, *(f"{key}={port}" for key, port in ports.items())]


def gpus(run: Run) -> int:
    """How many GPUs of one machine a run uses at one time; its parts use theirs one after another."""
    if not run.cluster.here:
        return 0  # it asks the cluster itself
    hardware, own = run.hardware, 0
    if run.stage.name == "finetune":
        own = training.devices(run.stage) or _all(hardware)
    elif run.stage.name in SERVING and hardware.urls is None:
        own = _all(hardware)
    return max([own, *map(gpus, run.parts.values())])


def _all(hardware: Hardware) -> int:
    return hardware.replicas * hardware.gpus_per_replica


def devices(run: Run) -> Iterator[str]:
    """Overrides that count the GPUs of each training from 0, because the job sees only those that it was given."""
    for part in (run, *run.parts.values()):
        if isinstance(stage := part.stage, Finetune) and stage.cuda_devices is not None:
            listed = ",".join(map(str, range(training.devices(stage))))
            yield f"{part.key}.cuda_devices='{listed}'"


def ports(cfg: DictConfig) -> dict[str, int]:
    """The keys of a configuration with the first port of a server, and the number of ports from there on."""
    found = {}
    for role in ROLES:
        if OmegaConf.select(cfg, f"{role}hardware.port") is not None:
            found[f"{role}hardware.port"] = 1 + (OmegaConf.select(cfg, f"{role}hardware.replicas") or 0)
    return found


def variables(node: Any) -> set[str]:
    """The names of the environment variables that a configuration takes keys and passwords from."""
    if isinstance(node, dict):
        named = {value for key, value in node.items() if str(key).endswith("_env") and isinstance(value, str)}
        return named.union(*map(variables, node.values()))
    return set[str]().union(*map(variables, node)) if isinstance(node, list) else set()
