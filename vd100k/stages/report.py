"""Write the report of an earlier run again, or those of all runs and their index, from the files in their folders."""

from __future__ import annotations

from pathlib import Path

from vd100k.config.run import Run
from vd100k.config.stages import Report
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.runs.report import index, page
from vd100k.runs.summary import Summary
from vd100k.runs.tracker import Tracker

ALL = Path("all")
SUMMARY = "summary.json"


def plan(run: Run, stage: Report) -> list[str]:
    if run.run == ALL:
        return [f"write {page.NAME} in each run folder below {run.output_dir}, and {run.output_dir / page.INDEX}"]
    return [f"write {_folder(run) / page.NAME}"]


def run(run: Run, stage: Report, folder: Path, summary: Summary, tracker: Tracker) -> None:
    if run.run == ALL:
        _write_all(run.output_dir.expanduser())
        return
    try:
        say(str(page.write(_folder(run))))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"{_folder(run)}: its summary.json is not in the format that vd100k writes: {error!r}"
        ) from error


def _write_all(output_dir: Path) -> None:
    """Write the report of every run again, then the index. A run that cannot be reported is named and left out."""
    written = 0
    for folder in index.run_folders(output_dir):
        try:
            steps = [step.parent for step in folder.glob(f"*-*/{SUMMARY}")]
            for one in [*steps, folder]:
                if page.read(one)["stage"] in page.STAGES:
                    page.write(one)
                    written += 1
        except (DataError, OSError, KeyError) as error:
            say(f"left out: {error}")
    say(f"{written} report{'' if written == 1 else 's'} written again. All runs: {index.write(output_dir)}")


def _folder(run: Run) -> Path:
    return (run.run or run.output_dir / "latest").expanduser().resolve()
