"""Where a stage's figures go besides the run folder: nowhere, or Weights & Biases, which never fails a run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.console import say
from vd100k.runs import wandb_session
from vd100k.runs.summary import Summary

EVERY_S = 10.0  # between two looks at figures that change by themselves

Figures = dict[str, Any]


class Tracker:
    """Takes figures of a stage as they come: one W&B run a stage, in a group with its pipeline's or sweep's others.

    W&B, which takes seconds to start, does so with the first figure, or when the stage has ended.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self._run, self._folder = run, folder
        self._on = run.tracking.name == "wandb" and os.environ.get("WANDB_MODE") != "disabled"
        self._session: Any = None
        self._id_file: Path | None = None

    def log(self, figures: Figures, step: int | None = None) -> None:
        """Figures by name, such as ``train/loss``; those of an earlier step than the last are passed over."""
        with self._harmless():
            if figures and (session := self._begun()):
                session.log(figures, step=step)

    @contextlib.contextmanager
    def following(self, look: Callable[[], Figures]) -> Iterator[None]:
        """Log what ``look`` finds, if anything, from time to time for as long as the block lasts."""
        ended = threading.Event()

        def follow() -> None:
            while not ended.wait(EVERY_S):
                self.log(look())

        follower = threading.Thread(target=follow, name="tracking", daemon=True)
        if self._on:
            follower.start()
        try:
            yield
        finally:
            ended.set()
            if self._on:
                follower.join()

    def resume(self, file: Path) -> None:
        """Before the first figure: go on with the W&B run that is named in ``file``, or name this one there."""
        self._id_file = file

    def leave_out(self) -> None:
        """Nothing of this stage is worth a W&B run: all was there already, or its parts have their own."""
        self._on = False

    def table(self, name: str, columns: list[str], rows: Iterable[list[Any]]) -> None:
        """A table; a ``Path`` in a row is an image."""
        with self._harmless():
            if session := self._begun():
                import wandb

                shown = [[_image(cell) if isinstance(cell, Path) else cell for cell in row] for row in rows]
                session.log({name: wandb.Table(columns=columns, data=shown)})

    def finish(self, summary: Summary) -> None:
        """The stage has ended: its figures, what it read and what it wrote; nothing of one that did nothing."""
        if not (self._session or summary.outputs or summary.metrics):
            return
        with self._harmless():
            if session := self._begun():
                session.summary.update(summary.figures() | {"status": summary.status})
                wandb_session.link(session, self._run, summary.inputs, summary.outputs)
        if self._session is not None:
            wandb_session.finish(self._session, 0 if summary.status == "ok" else 1)
            self._session = None

    def _begun(self) -> Any:
        """The W&B run, begun with the first call; None without W&B."""
        if self._on and self._session is None:
            if importlib.util.find_spec("wandb") is None:
                say("W&B is not installed, so nothing is sent there (pip install wandb, or tracking=none).")
                self._on = False
                return None
            known = self._id_file and self._id_file.exists()
            named = self._id_file.read_text(encoding="utf-8") if self._id_file and known else None
            self._session = wandb_session.begin(self._run, self._folder, named)
            if self._id_file:
                self._id_file.write_text(self._session.id, encoding="utf-8")
        return self._session if self._on else None

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        """Tracking is never a reason to fail: whatever it raises is said once, and the run goes on without it."""
        try:
            yield
        except Exception as error:
            if self._on:
                say(f"W&B stopped working, the run goes on without it: {wandb_session.first_line(error)}")
            self._on = False


def _image(path: Path) -> Any:
    """None for one that cannot be shown."""
    import wandb

    try:
        return wandb.Image(str(path))
    except Exception:  # whatever Pillow's decoders stumble over
        return None
