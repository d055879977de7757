"""Many runs by one command (``-m``): what each job varies, and a table of how they did, the best first.

All of it is read from the jobs' folders: it does not matter whether Hydra ran them here, in parallel, or on a cluster.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write

from vd100k.config.run import Run, Sweep
from vd100k.console import say, show
from vd100k.io import fingerprint
from vd100k.runs import summary as summaries
from vd100k.runs.summary import Summary, figures

# What the stages are judged by, the first that there is.
METRICS = ("after/exact_match", "before/exact_match", "eval_loss", "loss")
TRAIN = {"finetune", "pipeline"}  # stages
# Varied keys that a training's path names already, or that decide nothing of it.
ELSEWHERE = re.compile(
    r"(stage|model|dataset|images|task|answers|rejected|experiment|dry_run|(.*\.)?(port|cuda_devices)"
    r"|(tracking|hydra|sweep|teacher)(\..+)?|.*@teacher\..+)$"
)
LONGEST = 60  # bytes of a folder's name for one value

Figures = dict[str, Any]


@dataclass
class Job:
    """One of a sweep: its number, what it alone was told, and its ``summary.json``."""

    number: int
    folder: Path
    varied: dict[str, str]
    summary: Figures = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, float]:
        return figures(self.summary)

    @property
    def status(self) -> str:
        return str(self.summary.get("status", "no summary"))

    @property
    def reason(self) -> str:
        """Why it failed, in a line."""
        lines = [line.strip() for line in str(self.summary.get("error") or "").splitlines() if line.strip()]
        return lines[-1] if lines else ""


class Watch(Callback):
    """Knows of a multirun when it begins: tells its jobs which keys it varies, and remembers where they will be."""

    folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        overrides = list(config.hydra.overrides.task)
        parsed = OverridesParser.create().parse_overrides(overrides)
        varied = [override.key_or_group for override in parsed if override.is_sweep_override()]
        varied += [str(key) for key in OmegaConf.select(config, "hydra.sweeper.params") or {}]
        with read_write(config):
            config.hydra.overrides.task = [*overrides, f"sweep.keys=[{','.join(varied)}]"]
        type(self).folder = Path(config.hydra.sweep.dir)


def conclude() -> None:
    """The table of the multirun that this process had, if it had one."""
    if Watch.folder:
        table(Watch.folder)


def under_way() -> bool:
    """Whether this run is a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def command(argv: list[str]) -> list[str]:
    """What this run was told: of a sweep's job, what that job was."""
    if not under_way():
        return argv
    return [argv[0], *(one for one in HydraConfig.get().overrides.task if not one.startswith("sweep.keys="))]


def group() -> str | None:
    """The name that a sweep's jobs share."""
    return Path(HydraConfig.get().sweep.dir).name if under_way() else None


def variant(keys: list[str]) -> str | None:
    """What of ``keys`` decides a training, with this job's values: trainings of a sweep are kept apart by it.

    Null for jobs that train nothing: they look for what was trained under its plain name.
    """
    if not under_way() or HydraConfig.get().runtime.choices.get("stage") not in TRAIN:
        return None
    told = _told(HydraConfig.get().overrides.task)
    if "finetune" not in told.get("stage.steps", "finetune"):
        return None
    named = [key for key in keys if key in told and not ELSEWHERE.match(key)]
    ends = [key.rsplit(".", 1)[-1] for key in named]
    whole = len(set(ends)) < len(ends)  # two keys that end alike
    parts = (f"{key if whole else end}-{_plain(told[key])}" for key, end in zip(named, ends, strict=True))
    return "_".join(parts).replace("/", ".") or None


def _plain(value: str) -> str:
    """What the command line takes unquoted, and a disk as a name; what does not fit is told apart by a hash."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", value)[:LONGEST].strip("_")
    return plain if plain == value else f"{plain}-{fingerprint.of(value)[:6]}".lstrip("-")


def metric(sweep: Sweep, those: Iterable[str]) -> str | None:
    """The name of the figure that jobs are judged by, if it is among ``those``."""
    there = set(those)
    return next((name for name in ([sweep.metric] if sweep.metric else METRICS) if name in there), None)


def objective(run: Run, summary: Summary) -> float | None:
    """What a search, such as Optuna's, goes by; None if nothing of the kind was measured."""
    known = summary.figures()
    name = metric(run.sweep, known)
    return known[name] if name else None


def table(folder: Path) -> None:
    """Write ``sweep.csv`` into a sweep's folder, and show it: the best job first, failed ones last with the reason."""
    found = jobs(folder)
    if not any(job.summary for job in found):
        return  # none has begun, or they only said what they would do
    asked = (job.summary.get("settings", {}).get("sweep") for job in found)
    sweep = Sweep.model_validate(next(filter(None, asked), {"metric": None, "direction": None}))
    known = dict.fromkeys(name for job in found for name in job.figures)
    judged = metric(sweep, known)
    if sweep.metric and judged is None:
        say(f"sweep.metric={sweep.metric} is none of {', '.join(known)}: the jobs are in no order.")
    ordered = sorted(found, key=lambda job: _place(job, judged, sweep))
    keys = list(dict.fromkeys(key for job in found for key in job.varied))
    names = list(dict.fromkeys(name for job in ordered for name in job.figures))
    with (folder / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["job", *keys, "status", *names, "seconds", "reason", "folder"])
        for job in ordered:
            told, had = [job.varied.get(key) for key in keys], [job.figures.get(name) for name in names]
            end = [job.summary.get("seconds"), job.reason, job.folder]
            writer.writerow([job.number, *told, job.status, *had, *end])
    _show(ordered, keys, judged)
    say(f"{sum(job.status == 'ok' for job in found)} of {len(found)} jobs ended well: {folder / 'sweep.csv'}")


def _show(ordered: list[Job], keys: list[str], judged: str | None) -> None:
    from rich.markup import escape
    from rich.table import Table

    shown = Table("job", *map(escape, keys), "status", *([judged] if judged else []), "seconds", "reason")
    for job in ordered:
        figure = [f"{job.figures[judged]:.6g}" if judged in job.figures else ""] if judged else []
        told = [escape(job.varied.get(key, "")) for key in keys]
        shown.add_row(
            str(job.number), *told, job.status, *figure, f"{job.summary.get('seconds', 0):.0f}", escape(job.reason)
        )
    show(shown)


def _place(job: Job, judged: str | None, sweep: Sweep) -> tuple[bool, bool, float, int]:
    """Where a job stands: those that ended well first, by their figure."""
    figure = job.figures.get(judged) if judged else None
    lower = sweep.direction == "minimize" or (sweep.direction is None and "loss" in str(judged))
    worth = math.inf if figure is None or math.isnan(figure) else figure if lower else -figure
    return job.status != "ok", figure is None, worth, job.number


def jobs(folder: Path) -> list[Job]:
    """All jobs of a sweep's folder, by number."""
    found: list[Job] = []
    for path in folder.glob("*/.hydra/overrides.yaml"):
        told = _told(OmegaConf.to_container(OmegaConf.load(path)))
        keys = told.get("sweep.keys", "[]").strip("[]").split(",")
        place = path.parent.parent
        summary = place / "summary.json"
        read = json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else {}
        number = int(place.name.split("-")[0]) if place.name.split("-")[0].isdigit() else len(found)
        found.append(Job(number, place, {key: told[key] for key in keys if key in told}, read))
    return sorted(found, key=lambda job: job.number)


def _told(overrides: Any) -> dict[str, str]:
    """Overrides by their key; the last of each counts."""
    split = (summaries.told(str(override)).lstrip("+~").partition("=") for override in overrides)
    return {key: value for key, _, value in split}
