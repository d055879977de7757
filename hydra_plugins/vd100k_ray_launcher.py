"""hydra/launcher=ray: the jobs of a sweep on the machines of a Ray cluster. Hydra finds launchers only here."""

# Without annotations from __future__: Hydra runs this before sys.modules has it, where dataclass would look for it.
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class RayLauncherConf:
    """``hydra.launcher``: the CPUs that each job is counted with, and how long a shared folder may keep the locks of a
    machine that is lost, in seconds (NFS: 90). The GPUs of a job follow from its configuration.
    """

    _target_: str = "hydra_plugins.vd100k_ray_launcher.RayLauncher"
    cpus: float = 1
    locks_s: float = 120


ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayLauncherConf, provider="vd100k")


class RayLauncher(Launcher):
    """Places each job where its GPUs are free; the cluster is the one that ``cluster.address`` names."""

    def __init__(self, cpus: float, locks_s: float) -> None:
        self._cpus, self._locks_s = cpus, locks_s

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from vd100k.sweeping import launcher  # imported for sweeps on a cluster only

        compose: Any = self._context.config_loader.load_sweep_config
        return launcher.launch(self._config, compose, job_overrides, initial_job_idx, self._cpus, self._locks_s)
