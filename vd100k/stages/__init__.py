"""One module a stage. ``run(run, folder)`` does it and returns its Summary; ``plan(run)`` says what it would do.

Stages hand each other files and never import each other; ``pipeline`` runs them in order.
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from types import ModuleType

from vd100k.config import Run
from vd100k.summary import Summary


def module(name: str) -> ModuleType:
    """The module of a stage, imported only now: some bring heavy libraries."""
    return importlib.import_module(f"vd100k.stages.{name}")


def execute(run: Run, folder: Path, command: list[str]) -> Summary:
    """Run a stage and leave its ``summary.json`` in ``folder``, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    summary = Summary(run.stage.name, status="failed")
    try:
        summary = module(run.stage.name).run(run, folder)
        return summary
    except KeyboardInterrupt:
        summary.status = "interrupted"
        raise
    except Exception as error:
        summary.error = str(error)
        raise
    finally:
        summary.seconds = round(time.monotonic() - began, 1)
        summary.write(folder, command)
