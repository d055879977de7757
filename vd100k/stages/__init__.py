"""One module a stage, each a ``Stage``. They hand each other files and never import each other;
``pipeline`` runs them in order.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import time
from pathlib import Path
from typing import Any, Protocol, cast

from vd100k.config.run import Run
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.runs.summary import Summary, settings
from vd100k.runs.tracker import Tracker


class Stage(Protocol):
    """What a stage's module offers; ``stage`` is its own configuration, ``run.stage``."""

    def plan(self, run: Run, stage: Any) -> list[str]:
        """What would be run and written, in lines."""

    def run(self, run: Run, stage: Any, folder: Path, summary: Summary, tracker: Tracker) -> None:
        """Do it, logs going to ``folder``, filling ``summary`` and telling ``tracker`` on the way."""


def module(name: str) -> Stage:
    """The module of a stage, imported only now: some bring heavy libraries."""
    return cast(Stage, importlib.import_module(f"vd100k.stages.{name}"))


def plan(run: Run) -> list[str]:
    """What the run's stage would do."""
    return module(run.stage.name).plan(run, run.stage)


def execute(run: Run, folder: Path, command: list[str], summary: Summary | None = None) -> Summary:
    """Run a stage and leave its ``summary.json`` in ``folder``, however it ends.

    Raises:
        Vd100kError: whatever ended it early, in words; a full disk among others.
    """
    began = time.monotonic()
    summary = summary or Summary(run.stage.name)
    summary.settings = settings(run)
    tracker = Tracker(run, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        module(run.stage.name).run(run, run.stage, folder, summary, tracker)
        summary.status = "ok"
    except KeyboardInterrupt:
        summary.status = "interrupted"
        raise
    except Exception as error:
        summary.error = str(error)
        if isinstance(error, OSError):
            raise DataError(_system(error)) from error
        raise
    finally:
        summary.seconds = round(time.monotonic() - began, 1)
        with contextlib.suppress(OSError):  # on a full disk the error above says more
            summary.write(folder, command)
            _report(folder, run.stage.name)
        tracker.finish(summary)
    return summary


def _report(folder: Path, stage: str) -> None:
    """The page of the run, which is never a reason for it to fail."""
    from vd100k.runs.report import page  # only now: nobody waits for it

    if stage not in page.STAGES:
        return
    try:
        page.write(folder)
    except Exception as error:
        say(f"No {page.NAME} could be made: {error}")


def _system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    remedy = "Make room" if error.errno == errno.ENOSPC else "Fix that"
    return f"{where}{error.strerror or error}. {remedy} and run the same command again: all results so far are kept."
