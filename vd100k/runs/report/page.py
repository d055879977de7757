"""Writes ``report.html`` into a run folder."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import jinja2

from vd100k.errors import DataError
from vd100k.io import atomic
from vd100k.runs.report.sections import BLOCKS, section

NAME = "report.html"
KINDS = {"stage": str, "status": str, "counts": dict, "metrics": dict, "settings": dict, "outputs": list, "steps": list}
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
    atomic.replace(path, [html.encode(errors="backslashreplace")])
    return path


def _rendered(folder: Path, summary: dict[str, Any]) -> str:
    sections = [section(summary)]
    for number, step in enumerate(summary.get("steps", []), start=1):
        page = f"{number}-{step['stage']}/{NAME}"
        sections.append(section(step, page if (folder / page).exists() else None))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vd100k.runs.report", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        title=_title(summary),
        sections=sections,
        steps=sections[1:],
        command=shlex.join(["python", "run.py", *summary.get("command", [])[1:]]) if summary.get("command") else None,
        versions=summary.get("versions", {}),
        commit=summary.get("commit"),
        settings=json.dumps(summary.get("settings", {}), ensure_ascii=False, indent=2),
        folder=folder.name,
    )


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
    return " · ".join([summary["stage"], *(str(name) for name in about if name)])
