"""Many runs from one command (``-m``), and the table of their results, the best first.

Everything is read from the folders of the jobs, so it does not matter whether Hydra ran them here, in parallel, or on
a cluster.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import InterpolationResolutionError

from vd100k.comparing import noise
from vd100k.config.run import Run, Sweep
from vd100k.config.sweep_job import overrides_by_key
from vd100k.console import say, show
from vd100k.errors import DataError
from vd100k.runs import hydra_files
from vd100k.runs.summary import Summary, figures

COMPARED = "compared with the best"  # the heading of a column
# The figures that jobs are ordered by; the first one that exists.
METRICS = ("after/exact_match", "before/exact_match", "eval_loss", "loss")


@dataclass
class Job:
    """One job of a sweep: its number, the values of the swept keys, and its ``summary.json``."""

    number: int
    folder: Path
    values: dict[str, str]
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, float]:
        return figures(self.summary)

    @property
    def status(self) -> str:
        return str(self.summary.get("status", "no summary"))

    @property
    def reason(self) -> str:
        """Why it failed: the last line of the error message."""
        lines = [line.strip() for line in str(self.summary.get("error") or "").splitlines() if line.strip()]
        return lines[-1] if lines else ""


class SweepCallback(Callback):
    """Called by Hydra before it runs anything: checks that there is a folder to write to.

    When a multirun starts, it also tells the jobs which keys vary, and remembers the sweep's folder.
    """

    folder: Path | None = None

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        _make_folder(config, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        _make_folder(config, "hydra.sweep.dir")
        overrides = list(config.hydra.overrides.task)
        parsed = OverridesParser.create().parse_overrides(overrides)
        keys = [override.key_or_group for override in parsed if override.is_sweep_override()]
        keys += [str(key) for key in OmegaConf.select(config, "hydra.sweeper.params") or {}]
        with read_write(config):
            config.hydra.overrides.task = [*overrides, f"sweep.keys=[{','.join(keys)}]"]
        type(self).folder = Path(config.hydra.sweep.dir)


def _make_folder(config: DictConfig, key: str) -> None:
    """Make the folder that Hydra would make, or end this process with a message. (Hydra ignores exceptions here.)"""
    try:
        if not config.get("output_dir"):
            raise OSError(0, "it names no folder")
        Path(str(OmegaConf.select(config, key))).mkdir(parents=True, exist_ok=True)
    except InterpolationResolutionError:
        return  # Hydra meets it again when it runs the job, and ends with a message
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        problem = f"output_dir={config.get('output_dir')} cannot be written to{where}: {error.strerror}"
        print(f"{problem}. Set output_dir=FOLDER.", file=sys.stderr)
        raise SystemExit(1) from None


def write_table_of_this_process() -> None:
    """Write the table of the multirun that this process ran, if it ran one.

    Hydra's own ``on_multirun_end`` is not called if a job failed.
    """
    if SweepCallback.folder:
        hydra_files.redact_sweep(SweepCallback.folder)
        write_table(SweepCallback.folder)


def choose_metric(sweep: Sweep, figures: Iterable[str]) -> str | None:
    """The name of the figure that jobs are ordered by; None if it is not among ``figures``."""
    known = set(figures)
    return next((name for name in ([sweep.metric] if sweep.metric else METRICS) if name in known), None)


def objective(run: Run, summary: Summary) -> float | None:
    """The value that a search (such as Optuna's) optimises; None if the run did not measure it."""
    known = summary.figures()
    name = choose_metric(run.sweep, known)
    return known[name] if name else None


def objective_in(folder: Path, sweep: Sweep) -> float | None:
    """The same for a job that ran elsewhere, from its ``summary.json`` in ``folder``."""
    known = figures(_content(folder / "summary.json"))
    name = choose_metric(sweep, known)
    return known[name] if name else None


def write_table(folder: Path) -> None:
    """Write ``sweep.csv`` into a sweep's folder and print it: the best job first, failed ones last with the reason."""
    found = jobs(folder)
    if not any(job.summary for job in found):
        return  # no job started, or all were dry runs
    settings = (job.summary.get("settings", {}).get("sweep") for job in found)
    given = next(filter(None, settings), None)
    sweep = Sweep.model_validate(given if isinstance(given, dict) else {"metric": None, "direction": None})
    known = dict.fromkeys(name for job in found for name in job.figures)
    metric = choose_metric(sweep, known)
    if sweep.metric and metric is None:
        say(f"sweep.metric={sweep.metric} is not one of {', '.join(known)}: the jobs are not ordered.")
    ordered = sorted(found, key=lambda job: _rank(job, metric, sweep))
    keys = list(dict.fromkeys(key for job in found for key in job.values))
    standings = _standings(ordered, metric)
    _write(folder / "sweep.csv", ordered, keys, metric, standings)
    _show(ordered, keys, metric, standings)
    say(f"{sum(job.status == 'ok' for job in found)} of {len(found)} jobs finished: {folder / 'sweep.csv'}")


def _standings(ordered: list[Job], metric: str | None) -> list[noise.Standing | None]:
    """How each job compares with the first one, if the metric has intervals."""
    if not metric or not ordered or metric not in ordered[0].figures:
        return [None] * len(ordered)
    finished = [job.summary if job.status == "ok" else {} for job in ordered]
    return noise.standings(finished, metric, best=0)


def _write(
    path: Path, ordered: list[Job], keys: list[str], metric: str | None, standings: list[noise.Standing | None]
) -> None:
    names = list(dict.fromkeys(name for job in ordered for name in job.figures))
    compared = [f"{metric} low", f"{metric} high", COMPARED] if any(standings) else []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["job", *keys, "status", *names, *compared, "seconds", "reason", "folder"])
        for job, standing in zip(ordered, standings, strict=True):
            values, results = [job.values.get(key) for key in keys], [job.figures.get(name) for name in names]
            bounds = noise.interval(job.summary, metric) if standing and metric else None
            certain = [*(bounds or ("", "")), standing.told if standing else ""] if compared else []
            rest = [job.summary.get("seconds"), job.reason, job.folder]
            writer.writerow([job.number, *values, job.status, *results, *certain, *rest])


def _show(ordered: list[Job], keys: list[str], metric: str | None, standings: list[noise.Standing | None]) -> None:
    from rich.markup import escape
    from rich.table import Table

    compared = [COMPARED] if any(standings) else []
    figure = [metric] if metric else []
    table = Table("job", *map(escape, keys), "status", *figure, *compared, "seconds", "reason")
    for column in table.columns:
        column.no_wrap = column.header == metric
    for job, standing in zip(ordered, standings, strict=True):
        result = [_told(job, name) for name in figure]
        values = [escape(job.values.get(key, "")) for key in keys]
        certain = [standing.word if standing else ""] if compared else []
        seconds = f"{job.summary.get('seconds', 0):.0f}"
        table.add_row(str(job.number), *values, job.status, *result, *certain, seconds, escape(job.reason))
    show(table)
    if any(standings):
        numbers = [f"job {job.number}" for job in ordered]
        say(f"{metric}: {noise.sentence(numbers, standings)}")


def _told(job: Job, metric: str) -> str:
    """The figure of a job, with its interval if that is known."""
    if metric not in job.figures:
        return ""
    return noise.told(job.summary, metric) or f"{job.figures[metric]:.6g}"


def _rank(job: Job, metric: str | None, sweep: Sweep) -> tuple[bool, bool, float, int]:
    """The sort key of a job: successful ones first, by their figure."""
    figure = job.figures.get(metric) if metric else None
    minimize = sweep.direction == "minimize" or (sweep.direction is None and "loss" in str(metric))
    cost = math.inf if figure is None or math.isnan(figure) else figure if minimize else -figure
    return job.status != "ok", figure is None, cost, job.number


def jobs(folder: Path) -> list[Job]:
    """All jobs in a sweep's folder, by number."""
    found: list[Job] = []
    for path in folder.glob("*/.hydra/overrides.yaml"):
        values = overrides_by_key(_overrides(path))
        keys = values.get("sweep.keys", "[]").strip("[]").split(",")
        job_folder = path.parent.parent
        summary = job_folder / "summary.json"
        content = _content(summary)
        prefix = job_folder.name.split("-")[0]
        number = int(prefix) if prefix.isdigit() else len(found)
        found.append(Job(number, job_folder, {key: values[key] for key in keys if key in values}, content))
    return sorted(found, key=lambda job: job.number)


def _overrides(path: Path) -> list[Any]:
    """The overrides of a job; none if the file is broken."""
    try:
        read: Any = OmegaConf.to_container(OmegaConf.load(path))
    except Exception:  # of OmegaConf and YAML, of many types
        return []
    return read if isinstance(read, list) else []


def _content(summary: Path) -> dict[str, Any]:
    """The summary of a job; empty if it is missing or broken."""
    from vd100k.runs.report import page  # slow to import

    try:
        return page.read(summary)
    except DataError:
        return {}
