"""Where figures go besides the run folder: nowhere, or Weights & Biases, which never fails a run.

One W&B run a stage, in a group with the others of its pipeline or sweep. What a stage read and wrote are artifacts of
a name and content that the next stage's are known by, so that W&B draws the line from a model back to its images.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from vd100k.config import Run
from vd100k.console import say
from vd100k.summary import Summary, settings

START_S = 20.0  # for W&B to answer at first
FINISH_S = 60.0  # for it to take what is left at the end
EVERY_S = 10.0  # between two looks at figures that change by themselves
KINDS = {".safetensors": "model", ".jsonl": "dataset", ".json": "dataset", ".parquet": "dataset"}
NAME_LENGTH = 128

Figures = dict[str, Any]

_unreachable = threading.Event()  # found out once: later stages of this process do not wait for it again


class Tracker:
    """Takes figures of a stage as they come. W&B starts with the first of them, or when the stage has ended."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run, self._folder = run, folder
        self._on = run.tracking.name == "wandb"
        self._session: Any = None
        self._resumed: Path | None = None

    def log(self, figures: Figures, step: int | None = None) -> None:
        """Figures by name, such as ``train/loss``; those of an earlier step than the last are passed over."""
        with self._harmless():
            if session := self._started():
                session.log(figures, step=step)

    @contextlib.contextmanager
    def following(self, look: Callable[[], Figures]) -> Iterator[None]:
        """Log what ``look`` finds, from time to time for as long as the block lasts, and once after it."""
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
            self.log(look())

    def resume(self, file: Path) -> None:
        """Before the first figure: go on with the W&B run named in ``file``, or name this one there."""
        self._resumed = file

    def leave_out(self) -> None:
        """Nothing of this stage is worth a W&B run: all was there already."""
        self._on = False

    def table(self, name: str, columns: list[str], rows: Iterable[list[Any]]) -> None:
        """A table; a ``Path`` in a row is an image."""
        with self._harmless():
            if session := self._started():
                import wandb

                shown = [[wandb.Image(str(v)) if isinstance(v, Path) else v for v in row] for row in rows]
                session.log({name: wandb.Table(columns=columns, data=shown)})

    def finish(self, summary: Summary) -> None:
        """The stage has ended: its figures, what it read and what it wrote."""
        if not (self._session or summary.outputs or summary.metrics):
            return
        with self._harmless():
            if session := self._started():
                session.summary.update(summary.figures() | {"status": summary.status})
                self._link(summary)
        self._close(0 if summary.status == "ok" else 1)

    def _started(self) -> Any:
        if self._on and self._session is None:
            self._session = self._start()
            self._on = self._session is not None
        return self._session if self._on else None

    def _start(self) -> Any:
        if importlib.util.find_spec("wandb") is None:
            say("W&B is not installed, so nothing is sent there (pip install wandb, or tracking=none).")
            return None
        os.environ.setdefault("WANDB_SILENT", "true")  # what it would say is said here, once
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # W&B's own statistics
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
        if mode == "online" and _unreachable.is_set():
            mode = "offline"
        try:
            session = self._init(mode)
        except Exception as error:
            if mode != "online":
                raise
            _unreachable.set()
            say(f"W&B cannot be reached, figures are kept on this machine: {_first_line(error)}")
            session = self._init(mode := "offline")
        if self._resumed:
            self._resumed.write_text(session.id, encoding="utf-8")
        where = session.url if mode == "online" else f"kept here; to send it: wandb sync {_synced(session)}"
        say(f"W&B: {where}")
        return session

    def _init(self, mode: str) -> Any:
        import wandb

        run = self._run
        named = self._resumed.read_text(encoding="utf-8") if self._resumed and self._resumed.exists() else None
        session = wandb.init(
            project=run.tracking.project,
            entity=run.tracking.entity,
            group=run.tracking.group,
            job_type=run.stage.name,
            name="-".join(filter(None, [run.stage.name, run.model.name, run.variant])),
            id=named,
            resume="allow" if named else None,
            dir=str(self._folder),
            mode=mode,  # type: ignore[arg-type]
            config=settings(run),
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_code=True,
                x_save_requirements=False,
                init_timeout=START_S,
                finish_timeout=FINISH_S,
                finish_timeout_raises=True,
                # It would go on for hours.
                x_graphql_retry_max=4,
                x_graphql_retry_wait_max_seconds=2,
                x_file_stream_retry_max=4,
                x_file_stream_retry_wait_max_seconds=2,
                x_file_transfer_retry_max=4,
                x_file_transfer_retry_wait_max_seconds=2,
            ),
        )
        session.define_metric("train/global_step", hidden=True)
        session.define_metric("train/*", step_metric="train/global_step")
        session.define_metric("eval/*", step_metric="train/global_step")
        return session

    def _link(self, summary: Summary) -> None:
        """What was read and written, as artifacts; W&B's own ``use_artifact`` wants to be online."""
        for used, facts in ((True, summary.inputs), (False, summary.outputs)):
            for artifact in self._artifacts(facts):
                self._session._log_artifact(artifact, use_after_commit=used)

    def _artifacts(self, facts: list[Figures]) -> Iterator[Any]:
        import wandb

        files: dict[tuple[str, Path], list[Figures]] = {}
        for fact in facts:
            path = Path(fact["path"])
            if "sha256" in fact and (kind := KINDS.get(path.suffix)):
                files.setdefault((kind, path.parent if kind == "model" else path), []).append(fact)
        for (kind, place), those in files.items():
            artifact = wandb.Artifact(self._name(place), type=kind, metadata={"files": those})
            # What it is known by. The files themselves stay here unless they are asked for.
            with artifact.new_file("files.json") as described:
                json.dump([[Path(fact["path"]).name, fact["sha256"]] for fact in those], described)
            for fact in those if self._run.tracking.upload else []:
                artifact.add_file(fact["path"])
            yield artifact

    def _name(self, place: Path) -> str:
        within = place.absolute()
        with contextlib.suppress(ValueError):
            within = within.relative_to(self._run.output_dir.absolute())
        return re.sub(r"[^\w.-]+", "-", str(within), flags=re.ASCII).strip("-")[-NAME_LENGTH:]

    def _close(self, exit_code: int) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            session.finish(exit_code)
            lost = _lost(session)
        except Exception as error:
            lost = _first_line(error)
        if lost:
            say(f"W&B did not take all of it ({lost}). It is here; to send it: wandb sync {_synced(session)}")

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        """Tracking is never a reason to fail: whatever it raises is said once, and the run goes on without it."""
        try:
            yield
        except Exception as error:
            if self._on:
                say(f"W&B stopped working, the run goes on without it: {_first_line(error)}")
            self._on = False


def _synced(session: Any) -> str:
    return str(session.settings.sync_dir)


def _lost(session: Any) -> str | None:
    """Why W&B gave up sending, which it says in its log alone; None if it did not."""
    log = Path(session.settings.log_internal)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    found = next((line for line in lines if "fatal error" in line and '"ERROR' in line), None)
    return str(json.loads(found)["msg"])[:200] if found else None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def _has_key() -> bool:
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    logged_in = netrc.is_file() and "wandb" in netrc.read_text(encoding="utf-8", errors="replace")
    return bool(os.environ.get("WANDB_API_KEY")) or logged_in
