"""Where figures go besides the run folder: nowhere, or Weights & Biases, which never fails a run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vd100k.config import Run
from vd100k.console import say

Log = Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def track(run: Run, folder: Path) -> Iterator[Log]:
    """Something to log figures with; a ``step`` among them orders them.

    W&B is online when there is a key and offline when there is none; whatever it raises is said
    once and the run goes on without it.
    """
    session = _start(run, folder) if run.tracking.name == "wandb" else None

    def log(figures: dict[str, Any]) -> None:
        nonlocal session
        if session is not None:
            try:
                session.log(figures, step=figures.get("step"))
            except Exception as error:  # tracking is never a reason to fail
                say(f"W&B stopped working, the run goes on without it: {error}")
                session = None

    try:
        yield log
    finally:
        if session is not None:
            with contextlib.suppress(Exception):
                session.finish()


def _start(run: Run, folder: Path) -> Any:
    try:
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        online = bool(os.environ.get("WANDB_API_KEY")) or _logged_in()
        return wandb.init(
            project=run.tracking.project,
            entity=run.tracking.entity,
            group=run.tracking.group,
            job_type=run.stage.name,
            name=f"{run.stage.name}-{run.model.name}",
            dir=str(folder),
            mode=os.environ.get("WANDB_MODE") or ("online" if online else "offline"),  # type: ignore[arg-type]
            config=run.model_dump(mode="json", exclude={"parts"}),
            reinit="finish_previous",
        )
    except ImportError:
        say("W&B is not installed, so nothing is sent there (pip install wandb, or tracking=none).")
    except Exception as error:  # tracking is never a reason to fail
        say(f"W&B could not start, the run goes on without it: {error}")
    return None


def _logged_in() -> bool:
    netrc = Path("~/.netrc").expanduser()
    return netrc.is_file() and "wandb" in netrc.read_text(encoding="utf-8", errors="replace")
