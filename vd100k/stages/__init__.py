"""One module a stage. ``run(run, stage, folder)`` does it and returns its Summary; ``plan(run, stage)`` says what it
would do.

Stages hand each other files and never import each other; ``pipeline`` runs them in order.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import time
from pathlib import Path
from types import ModuleType

from vd100k.config import Run
from vd100k.errors import DataError
from vd100k.summary import Summary


def module(name: str) -> ModuleType:
    """The module of a stage, imported only now: some bring heavy libraries."""
    return importlib.import_module(f"vd100k.stages.{name}")


def plan(run: Run) -> list[str]:
    """What the stage would run and write, in lines."""
    lines: list[str] = module(run.stage.name).plan(run, run.stage)
    return lines


def execute(run: Run, folder: Path, command: list[str]) -> Summary:
    """Run a stage and leave its ``summary.json`` in ``folder``, however it ends.

    Raises:
        Vd100kError: whatever ended it early, in words; a full disk among others.
    """
    began = time.monotonic()
    summary = Summary(run.stage.name, status="failed")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        summary = module(run.stage.name).run(run, run.stage, folder)
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
    return summary


def _system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    remedy = "Make room" if error.errno == errno.ENOSPC else "Put that right"
    return f"{where}{error.strerror or error}. {remedy} and run the same command again: what was made is kept."
