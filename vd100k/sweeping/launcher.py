"""Hydra's side of a sweep on a cluster: its jobs are composed here, run there, and their results handed back."""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict

from vd100k.cluster import placement
from vd100k.comparing import sweeps
from vd100k.config.parse import parse
from vd100k.config.quoting import quote
from vd100k.config.run import Run
from vd100k.console import say
from vd100k.errors import ConfigError, Vd100kError
from vd100k.sweeping import job as jobs
from vd100k.sweeping.job import Job
from vd100k.sweeping.placed import Placed, run_all

FLAGS = ("--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")
# Overrides of Hydra's own keys that are about the sweep as a whole.
OF_THE_SWEEP = ("hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper", "hydra.mode", "hydra.sweep")
TRACKING = {"WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE"}


def launch(
    config: DictConfig,
    compose: Callable[[DictConfig, list[str]], DictConfig],
    job_overrides: Sequence[Sequence[str]],
    first: int,
    cpus: float,
    locks_s: float,
) -> list[JobReturn]:
    """Run the jobs with these overrides, whose numbers begin at ``first``, and wait for all of them.

    Each is counted with so many ``cpus``. A lost machine may keep its locks on files for ``locks_s``.

    Raises:
        ConfigError: the configuration of no job is valid.
        ServerError: see ``placed.run_all``.
    """
    setup_globals()
    found, runs, variables = [], [], set(TRACKING)
    for number, overrides in enumerate(job_overrides, first):
        composed = _composed(config, compose, list(overrides), number)
        run, problem = _parsed(composed)
        runs.append(run)
        found.append(_job(composed, run, list(overrides), number))
        variables |= jobs.variables(OmegaConf.to_container(composed))
    known = next((run for run in runs if run), None)
    if known is None:
        raise problem or Vd100kError("a sweep without a job")
    if known.dry_run:
        return [_described(job, known, cpus) for job in found]
    cluster = known.cluster.model_copy(update={"name": "ray"})
    placed = run_all(known.model_copy(update={"cluster": cluster}), found, variables, cpus, locks_s)
    return [
        _returned(one, run, list(overrides)) for one, run, overrides in zip(placed, runs, job_overrides, strict=True)
    ]


def _composed(
    config: DictConfig, compose: Callable[[DictConfig, list[str]], DictConfig], overrides: list[str], number: int
) -> DictConfig:
    """The configuration of a job, as Hydra's own launchers compose it."""
    composed = compose(config, overrides)
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = number
    HydraConfig.instance().set_config(composed)
    return composed


def _parsed(composed: DictConfig) -> tuple[Run | None, ConfigError | None]:
    """The run of a job; None if its configuration is wrong, which the job itself reports."""
    task = copy.deepcopy(composed)
    OmegaConf.set_readonly(task, False)
    with open_dict(task):
        del task["hydra"]
    try:
        return parse(task), None
    except ConfigError as error:
        return None, error


def _job(composed: DictConfig, run: Run | None, overrides: list[str], number: int) -> Job:
    sweep = composed.hydra.sweep
    hydras: Any = OmegaConf.to_container(composed.hydra.overrides.hydra, resolve=False)
    folder = Path(str(sweep.dir)) / str(sweep.subdir)
    places = {"run": folder, "sweep": sweep.dir}
    arguments = [
        *_flags(sys.argv),
        *(one for one in hydras if not one.lstrip("+~").startswith(OF_THE_SWEEP)),
        *overrides,
        *(f"hydra.{key}.dir={quote(str(place))}" for key, place in places.items()),
        f"hydra.job.num={number}",
        *(jobs.devices(run) if run else ()),
    ]
    wanted = (jobs.gpus(run), jobs.ports(composed)) if run else ()
    return Job(number, " ".join(filter_overrides(overrides)), arguments, folder.absolute(), *wanted)


def _flags(argv: list[str]) -> list[str]:
    """The flags that say where configuration files are."""
    apart = [one for pair in itertools.pairwise(argv) if pair[0] in FLAGS for one in pair]
    return apart + [one for one in argv if "=" in one and one.partition("=")[0] in FLAGS]


def _described(job: Job, run: Run, cpus: float) -> JobReturn:
    """Print what would run; nothing is contacted."""
    needed = {"CPU": cpus} | ({"GPU": job.gpus} if job.gpus else {}) | run.cluster.resources
    say(f"job {job.number} on a machine of the cluster with {placement.told(needed)}:")
    say(" ".join(["python", sys.argv[0], *job.command(dict.fromkeys(job.ports, "PORT"))]))
    return JobReturn(status=JobStatus.COMPLETED)


def _returned(one: Placed, run: Run | None, overrides: list[str]) -> JobReturn:
    """The figure that a search optimises, or the error of the job."""
    result = JobReturn(overrides=overrides, working_dir=str(one.job.folder))
    if one.problem or run is None:
        result.status, result.return_value = JobStatus.FAILED, Vd100kError(one.problem)
        return result
    result.status, result.return_value = JobStatus.COMPLETED, sweeps.objective_in(one.job.folder, run.sweep)
    return result
