"""``index.html`` in the folder of all outputs: the list of its runs, made only from their ``summary.json``."""

from __future__ import annotations

import contextlib
import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vd100k.errors import DataError
from vd100k.io import atomic
from vd100k.pages.html import duration, render
from vd100k.runs.report import page
from vd100k.runs.report.page import INDEX, PLACES
from vd100k.runs.report.sections import result

MOST = 1000  # runs on the page, the newest
SKIPPED = {"report", "compare", "chat", "serve"}  # stages that make nothing to come back to


@dataclass(frozen=True)
class Listed:
    """A run as the index shows it; ``link`` is the address of its report relative to the index, or None."""

    when: str
    stage: str
    model: str
    dataset: str
    figure: str
    status: str
    seconds: float
    folder: str
    link: str | None

    @property
    def took(self) -> str:
        return duration(self.seconds)


def write(output_dir: Path) -> Path:
    """Write the index of the newest ``MOST`` runs; return its path.

    Runs that end at the same moment all write it. Each looks again after it has written, so the last one to write
    has listed all of them.

    Raises:
        OSError: it cannot be written.
    """
    listed = None
    while (found := _state(output_dir)) != listed:
        _write(output_dir, list(found))
        listed = found
    return output_dir / INDEX


def _state(output_dir: Path) -> dict[Path, tuple[int, bool]]:
    """What decides the index: for each run, the time of its summary, and whether it has a report."""
    state = {}
    for folder in run_folders(output_dir):
        with contextlib.suppress(OSError):  # it was deleted meanwhile
            changed = (folder / "summary.json").stat().st_mtime_ns
            state[folder] = changed, (folder / page.NAME).is_file()
    return state


def _write(output_dir: Path, folders: list[Path]) -> None:
    newest = heapq.nlargest(MOST, folders, key=_age)
    runs = [run for run in map(_listed, newest, [output_dir] * len(newest)) if run]
    runs.sort(key=lambda run: (run.when, Path(run.folder).parts[1:]), reverse=True)
    # Those that are not read may be of stages that are not listed.
    total = len(runs) if len(folders) <= MOST else len(folders)
    html = render("index.html.j2", runs=runs, total=total, folder=output_dir.absolute().name)
    atomic.replace(output_dir / INDEX, [html])


def run_folders(output_dir: Path) -> Iterator[Path]:
    """The folders of all runs and of all jobs of sweeps that have a ``summary.json``."""
    for place, depth in PLACES.items():
        for folder in _below(output_dir / place, depth):
            if (folder / "summary.json").is_file():
                yield folder


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if depth == 0:
        yield folder
        return
    try:
        with os.scandir(folder) as entries:
            inner = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # there is none, or it may not be read
        return
    for one in inner:
        yield from _below(one, depth - 1)


def _age(folder: Path) -> tuple[str, ...]:
    """The date and the time in a folder's name, without its place."""
    return folder.parts[-PLACES["sweeps"] if folder.parts[-4] == "sweeps" else -PLACES["runs"] :]


def _listed(folder: Path, output_dir: Path) -> Listed | None:
    """The line of a run; None if it is not listed, or its summary cannot be read."""
    try:
        summary = page.read(folder)
        if summary["stage"] in SKIPPED:
            return None
        about = dict(page.about(summary))
        report = folder / page.NAME
        return Listed(
            page.when(folder, summary),
            summary["stage"],
            about.get("model", ""),
            about.get("data set", ""),
            _outcome(summary),
            summary["status"],
            float(summary.get("seconds", 0)),
            str(folder.relative_to(output_dir)),
            quote(str(report.relative_to(output_dir)), errors="surrogateescape") if report.is_file() else None,
        )
    except (DataError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _outcome(summary: dict[str, Any]) -> str:
    """The first line of the error; of a run without an error, its result."""
    reason = str(summary.get("error") or "").strip().partition("\n")[0][:200]
    return reason or result(summary) or ""
