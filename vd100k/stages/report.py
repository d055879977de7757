"""Write the report of an earlier run again, from the files in its folder."""

from __future__ import annotations

from pathlib import Path

from vd100k.config.run import Run
from vd100k.config.stages import Report
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.runs.report import page
from vd100k.runs.summary import Summary
from vd100k.runs.tracker import Tracker


def plan(run: Run, stage: Report) -> list[str]:
    return [f"write {_folder(run) / page.NAME}"]


def run(run: Run, stage: Report, folder: Path, summary: Summary, tracker: Tracker) -> None:
    try:
        say(str(page.write(_folder(run))))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"{_folder(run)}: its summary.json is not in the format that vd100k writes: {error!r}"
        ) from error


def _folder(run: Run) -> Path:
    return (run.run or run.output_dir / "latest").expanduser().resolve()
