"""Writes ``report.html`` into a run folder."""

from __future__ import annotations

import json
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

from vd100k.config.model_defaults import UNCHOSEN
from vd100k.errors import DataError
from vd100k.io import atomic
from vd100k.pages.blocks import Headline, Section
from vd100k.pages.html import render
from vd100k.pages.pictures import LARGE_BYTES
from vd100k.runs.report.sections import BLOCKS, headline, measured, money, section

NAME = "report.html"
INDEX = "index.html"
# Runs are at these depths below the folder of outputs: runs/DATE/RUN and sweeps/DATE/SWEEP/JOB.
PLACES = {"runs": 2, "sweeps": 3}
ASKING = {"generate", "verify", "evaluate"}  # stages whose requests may cost something
TIME = "%Y-%m-%d %H:%M"
KINDS = {
    "stage": str,
    "status": str,
    "counts": dict,
    "metrics": dict,
    "certainty": dict,
    "settings": dict,
    "outputs": list,
    "steps": list,
}
STAGES = {*BLOCKS, "pipeline"}  # the stages that get a report


def write(folder: Path) -> Path:
    """Write ``report.html`` from the ``summary.json`` of a run folder and the files that it lists. Return its path.

    Raises:
        DataError: ``summary.json`` is missing or is not the summary of a run.
        OSError: the page cannot be written.
    """
    summary = read(folder)
    try:
        html = _rendered(folder, summary)
    except OSError:
        raise
    except Exception as error:  # whatever a file of another origin, or one edited by hand, leads to
        raise _not_ours(folder / "summary.json", repr(error)) from error
    path = folder / NAME
    atomic.replace(path, [html])
    return path


def _rendered(folder: Path, summary: dict[str, Any]) -> bytes:
    steps = summary.get("steps", [])
    sections = []
    for number, step in enumerate(steps, start=1):
        page = f"{number}-{step['stage']}/{NAME}"
        link = page if (folder / page).exists() else None
        sections.append(section(step, link, LARGE_BYTES // len(steps)))
    whole = section(summary)
    return render(
        "report.html.j2",
        all_runs=_all_runs(folder),
        headline=_headline(folder, summary, whole),
        whole=whole,
        steps=sections,
        command=shlex.join(["python", "run.py", *summary.get("command", [])[1:]]) if summary.get("command") else None,
        versions=summary.get("versions", {}),
        commit=summary.get("commit"),
        settings=json.dumps(summary.get("settings", {}), ensure_ascii=False, indent=2),
        folder=folder.name,
    )


def _all_runs(folder: Path) -> str | None:
    """The address of the index relative to a run folder, or to that of a step; None if no index lists the run."""
    for up, parent in enumerate(folder.absolute().parents[:4], start=2):
        if parent.name in PLACES:
            # The index is written after the report, and only for a run that Hydra has made the folder of.
            made = any((one / ".hydra").is_dir() for one in (folder, folder.absolute().parent))
            return "../" * up + INDEX if made or (parent.parent / INDEX).exists() else None
    return None


def _headline(folder: Path, summary: dict[str, Any], whole: Section) -> Headline:
    """The result, when and how long, what it cost, and the bars and the pictures of before and after."""
    parts = [*summary.get("steps", []), summary]
    pictures = [card for one in parts for card in headline(one)]
    bars = next(filter(None, map(measured, parts)), None)
    facts = [when(folder, summary), whole.duration, price(summary)]
    failed = {"ok": f"{summary['stage']} finished"}.get(whole.status, f"{summary['stage']} {whole.status}")
    shown = whole.figure if whole.figure and whole.status == "ok" else failed
    told = [fact for fact in facts if fact and fact not in shown]
    return Headline(_title(summary), shown, told, about(summary), pictures, bars)


def about(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What ran: the stage, the task, the model, the data set and the hardware, as far as they are known."""
    settings = summary.get("settings", {})
    names = {key: settings.get(key) for key in ("task", "model", "dataset", "hardware")}
    named = {key: value.get("name") if isinstance(value, dict) else value for key, value in names.items()}
    experiments = [text.partition("=")[2] for text in summary.get("command", []) if str(text).startswith("experiment=")]
    known = {"stage": summary["stage"], "experiment": ", ".join(experiments), **named}
    return [
        (name.replace("dataset", "data set"), str(value))
        for name, value in known.items()
        if value and value != UNCHOSEN
    ]


def price(summary: dict[str, Any]) -> str:
    """The cost of all requests; $0 if none left this machine; empty if it is not known."""
    steps = [step for step in [*summary.get("steps", []), summary] if step["stage"] in ASKING]
    costs = [step.get("counts", {}).get("cost") for step in steps]
    if any(isinstance(cost, int | float) for cost in costs):
        total = sum(cost for cost in costs if isinstance(cost, int | float))
        return money(total)
    if any(step["stage"] == "verify" for step in steps):
        return ""  # a judge may be elsewhere
    hardware = [step.get("settings", {}).get("hardware", {}) for step in steps]
    return "$0" if steps and all(isinstance(one, dict) and one.get("urls", "?") is None for one in hardware) else ""


def when(folder: Path, summary: dict[str, Any]) -> str:
    """The date and time at which a run began, or those of its summary if they are not recorded."""
    try:
        return datetime.fromisoformat(str(summary.get("started"))).strftime(TIME)
    except ValueError:
        return datetime.fromtimestamp((folder / "summary.json").stat().st_mtime).strftime(TIME)


def read(folder: Path) -> dict[str, Any]:
    """The ``summary.json`` of a run folder.

    Raises:
        DataError: it is missing, or it is not the summary of a run.
    """
    path = folder / "summary.json" if folder.is_dir() else folder
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be read as the summary of a run ({error}). Name a folder in outputs/runs."
        ) from error
    if not isinstance(summary, dict) or not {"stage", "status", "outputs"} <= summary.keys():
        raise DataError(f"{path}: is not the summary of a run. Name a folder in outputs/runs.")
    for key, kind in KINDS.items():
        if key in summary and not isinstance(summary[key], kind):
            raise _not_ours(path, f"{key} is {type(summary[key]).__name__}, not {kind.__name__}")
    return summary


def _not_ours(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: its content is not in the format that vd100k writes: {reason}")


def _title(summary: dict[str, Any]) -> str:
    settings = summary.get("settings", {})
    about = [settings.get("model", {}).get("name"), settings.get("task", {}).get("name"), settings.get("dataset")]
    return " · ".join([summary["stage"], *(str(name) for name in about if name and name != UNCHOSEN)])
