"""The stages of vd100k, one module each; ``execute`` runs one and writes its summary.

Every module provides the functions of ``Stage``, and may provide ``needs`` and ``makes``. Stages exchange files and do
not import each other; the stage ``pipeline`` runs several in order.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, cast

from vd100k.config.run import Run
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.runs import needs
from vd100k.runs.needs import Need
from vd100k.runs.summary import Summary, image_folders, settings
from vd100k.runs.tracker import Tracker


class Stage(Protocol):
    """The functions of a stage's module; ``stage`` is its part of the configuration, ``run.stage``."""

    def plan(self, run: Run, stage: Any) -> list[str]:
        """Lines that describe what the stage would run and write (``dry_run=true``)."""

    def run(self, run: Run, stage: Any, folder: Path, summary: Summary, tracker: Tracker) -> None:
        """Run the stage: write logs to ``folder``, fill in ``summary`` and report metrics to ``tracker``."""


class Needing(Stage, Protocol):
    """The functions of a stage that needs or makes files."""

    def needs(self, run: Run, stage: Any) -> Iterable[Need]:
        """What must be there before the stage starts, unless an earlier step of a pipeline makes it."""

    def makes(self, run: Run, stage: Any) -> list[Path]:
        """The files and folders that later steps of a pipeline may need."""


def module(name: str) -> Stage:
    """The module of a stage, imported on demand because some import large libraries.

    Raises:
        DataError: a package that it needs is missing or broken.
    """
    try:
        return cast(Stage, importlib.import_module(f"vd100k.stages.{name}"))
    except ImportError as error:
        raise DataError(_describe_import_error(error)) from error


def plan(run: Run) -> list[str]:
    """The plan of the run's stage."""
    return module(run.stage.name).plan(run, run.stage)


def faults(run: Run) -> list[str]:
    """What is missing for the run's stage, or for any of its steps; in a dry run only what the user named."""
    steps = list(run.parts.values()) if run.stage.name == "pipeline" else [run]
    return needs.faults(map(_needs_and_products, steps), only_given=run.dry_run)


def _needs_and_products(run: Run) -> tuple[Iterable[Need], Iterable[Path]]:
    stage = module(run.stage.name)
    if not hasattr(stage, "needs"):
        return (), ()
    needing = cast(Needing, stage)
    return needing.needs(run, run.stage), needing.makes(run, run.stage)


def _refuse_faults(run: Run) -> None:
    """Raise DataError with everything that is missing."""
    found = faults(run)
    if len(found) == 1:
        raise DataError(found[0])
    if found:
        heading = f"Nothing was started, because {len(found)} things are missing or wrong:"
        raise DataError("\n".join([heading, *(f"  - {fault}" for fault in found)]))


def execute(run: Run, folder: Path, command: list[str], summary: Summary | None = None) -> Summary:
    """Run a stage, and write ``summary.json`` into ``folder`` even if it fails.

    Raises:
        Vd100kError: the stage failed; errors of the operating system, such as a full disk, are converted too.
    """
    began = time.monotonic()
    summary = summary or Summary(run.stage.name)
    summary.settings, summary.image_folders = settings(run), image_folders(run)
    tracker = Tracker(run, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_faults(run)
        module(run.stage.name).run(run, run.stage, folder, summary, tracker)
        summary.status = "ok"
    except KeyboardInterrupt:
        summary.status = "interrupted"
        raise
    except Exception as error:
        summary.error = str(error)
        if isinstance(error, ImportError):
            raise DataError(_describe_import_error(error)) from error
        if isinstance(error, OSError):
            raise DataError(_describe_os_error(error)) from error
        raise
    finally:
        summary.seconds = round(time.monotonic() - began, 1)
        with contextlib.suppress(OSError):  # on a full disk, the first error explains more
            summary.write(folder, command)
            _report(folder, run)
        tracker.finish(summary)
    return summary


def _report(folder: Path, run: Run) -> None:
    """Write the report of the run and the index of all runs; if one fails, print why: the run itself did not fail."""
    try:
        from vd100k.runs.report import index, page  # slow to import

        if run.stage.name in page.STAGES:
            page.write(folder)
    except Exception as error:
        say(f"report.html could not be written: {error}")
        return
    output_dir = run.output_dir.expanduser()
    if run.stage.name not in page.STAGES or not _is_listed(folder, output_dir):
        return
    try:
        index.write(output_dir)
    except Exception as error:
        say(f"{output_dir / page.INDEX} could not be written: {error}")


def _is_listed(folder: Path, output_dir: Path) -> bool:
    """Whether it is the folder of a run in the index, and not that of a step of a pipeline."""
    return (folder / ".hydra").is_dir() and folder.resolve().is_relative_to(output_dir.resolve())


def _describe_import_error(error: ImportError) -> str:
    """A message with the package and the remedy."""
    return f"A Python package is missing or broken: {error}. Install it: pip install -e '.[train,chat,wandb]'"


def _describe_os_error(error: OSError) -> str:
    """A message with the file, the error and the remedy."""
    where = f"{error.filename}: " if error.filename else ""
    remedy = "Free some space" if error.errno == errno.ENOSPC else "Fix the cause"
    return f"{where}{error.strerror or error}. {remedy} and run the same command again: all results so far are kept."
