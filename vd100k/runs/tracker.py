"""Sends the figures of a stage to Weights & Biases if tracking is on. A tracking error never fails a run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.console import say
from vd100k.io import atomic
from vd100k.parallel.beside import repeated
from vd100k.runs import wandb_session
from vd100k.runs.summary import Summary

EVERY_S = 10.0  # between two samples of figures that are polled

Metrics = dict[str, Any]


class Tracker:
    """Logs the figures of one stage as one W&B run, grouped with the other runs of its pipeline or sweep.

    W&B takes seconds to start, so the W&B run is started by the first figure, or at the end of the stage.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self._run, self._folder = run, folder
        self._on = run.tracking.name == "wandb" and os.environ.get("WANDB_MODE") != "disabled"
        self._session: Any = None
        self._id_file: Path | None = None

    def log(self, metrics: Metrics, step: int | None = None) -> None:
        """Log figures by name, such as ``train/loss``. W&B ignores steps that are lower than the last one."""
        with self._never_failing():
            if metrics and (session := self._session_or_none()):
                session.log(metrics, step=step)

    @contextlib.contextmanager
    def following(self, sample: Callable[[], Metrics]) -> Iterator[None]:
        """Log what ``sample`` returns every ``EVERY_S`` seconds while the block runs."""
        if not self._on:
            yield
            return

        def follow() -> None:
            self.log(sample())

        with repeated(follow, EVERY_S, "tracking"):
            yield

    def resume(self, file: Path) -> None:
        """Continue the W&B run whose id is in ``file``, or write the id of a new one there.

        Call it before the first figure is logged.
        """
        self._id_file = file

    def disable(self) -> None:
        """Start no W&B run for this stage: it had nothing to do, or its steps have their own W&B runs."""
        self._on = False

    def table(self, name: str, columns: list[str], rows: Iterable[list[Any]]) -> None:
        """Log a table. A ``Path`` in a row is shown as an image."""
        with self._never_failing():
            if session := self._session_or_none():
                import wandb

                shown = [[_image(cell) if isinstance(cell, Path) else cell for cell in row] for row in rows]
                session.log({name: wandb.Table(columns=columns, data=shown)})

    def finish(self, summary: Summary) -> None:
        """Log the figures, inputs and outputs of the finished stage, and close the W&B run. Skip an empty stage."""
        if not (self._session or summary.outputs or summary.metrics):
            return
        with self._never_failing():
            if session := self._session_or_none():
                session.summary.update(summary.figures() | {"status": summary.status})
                wandb_session.log_artifacts(session, self._run, summary.inputs, summary.outputs)
        if self._session is not None:
            wandb_session.finish(self._session, 0 if summary.status == "ok" else 1)
            self._session = None

    def _session_or_none(self) -> Any:
        """The W&B run, which the first call starts; None if tracking is off or W&B is not installed."""
        if self._on and self._session is None:
            if importlib.util.find_spec("wandb") is None:
                say("W&B is not installed, so this run is not tracked: pip install wandb, or set tracking=none.")
                self._on = False
                return None
            known = self._id_file and self._id_file.exists()
            run_id = self._id_file.read_text(encoding="utf-8") if self._id_file and known else None
            self._session = wandb_session.start_run(self._run, self._folder, run_id)
            if self._id_file:
                atomic.replace(self._id_file, [self._session.id.encode()])
        return self._session if self._on else None

    @contextlib.contextmanager
    def _never_failing(self) -> Iterator[None]:
        """Catch all errors of tracking. The first one is printed and turns tracking off; the run continues."""
        try:
            yield
        except Exception as error:
            if self._on:
                say(f"W&B failed, so the run continues without tracking: {wandb_session.first_line(error)}")
            self._on = False


def _image(path: Path) -> Any:
    """The image for W&B; None if it cannot be read."""
    import wandb

    try:
        return wandb.Image(str(path))
    except Exception:  # Pillow's decoders raise errors of many types
        return None
