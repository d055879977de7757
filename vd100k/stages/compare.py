"""Show runs side by side: the settings that differ, and all figures."""

from __future__ import annotations

from pathlib import Path

from vd100k.comparing import tables
from vd100k.config.run import Run
from vd100k.config.stages import Compare
from vd100k.runs.report import page
from vd100k.runs.summary import Summary
from vd100k.runs.tracker import Tracker


def plan(run: Run, stage: Compare) -> list[str]:
    return [f"compare {', '.join(map(str, run.runs))}"]


def run(run: Run, stage: Compare, folder: Path, summary: Summary, tracker: Tracker) -> None:
    tracker.disable()
    summaries = [page.read(path.expanduser().resolve()) for path in run.runs]
    tables.compare([path.resolve().name for path in run.runs], summaries)
