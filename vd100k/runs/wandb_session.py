"""W&B itself: beginning a run, what is read and written as artifacts, and whether all of it arrived."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.console import say
from vd100k.io import fingerprint
from vd100k.runs.summary import settings

START_S = 20.0  # for W&B to answer at first
FINISH_S = 60.0  # for it to take what is left at the end
KINDS = {".safetensors": "model", ".jsonl": "dataset", ".json": "dataset", ".parquet": "dataset"}
NAME_LENGTH = 128

_unreachable = threading.Event()  # found out once: later stages of this process do not wait for it again


def begin(run: Run, folder: Path, named: str | None) -> Any:
    """A W&B run, online with a key and offline without; ``named`` is the id of one to go on with.

    Raises:
        Exception: whatever W&B raises when it cannot even write to ``folder``.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # what it would say is said here, once
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # W&B's own statistics
    mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    if mode == "online" and _unreachable.is_set():
        mode = "offline"
    try:
        session = _init(run, folder, named, mode)
    except Exception as error:
        if mode != "online":
            raise
        _unreachable.set()
        say(f"W&B cannot be reached, figures are kept on this machine: {first_line(error)}")
        session = _init(run, folder, named, mode := "offline")
    say(f"W&B: {session.url if mode == 'online' else f'kept here; to send it: {_sync(session)}'}")
    return session


def _init(run: Run, folder: Path, named: str | None, mode: str) -> Any:
    import wandb

    session = wandb.init(
        project=run.tracking.project,
        entity=run.tracking.entity,
        group=run.tracking.group,
        job_type=run.stage.name,
        name=f"{run.stage.name}-{run.full_name}",
        id=named,
        resume="allow" if named else None,
        dir=str(folder),
        mode=mode,  # type: ignore[arg-type]
        config=settings(run),
        reinit="create_new",
        settings=wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            x_disable_meta=True,  # the command line is in it, and whatever was given there
            x_save_requirements=False,
            init_timeout=START_S,
            finish_timeout=0 if run.tracking.upload else FINISH_S,
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


def link(session: Any, run: Run, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
    """What was read and written, as artifacts: by those of the same name and content W&B draws the lineage."""
    for used, facts in ((True, inputs), (False, outputs)):
        for artifact in _artifacts(run, facts):
            session._log_artifact(artifact, use_after_commit=used)  # W&B's own use_artifact wants to be online


def _artifacts(run: Run, facts: list[dict[str, Any]]) -> Iterator[Any]:
    import wandb

    files: dict[tuple[str, Path], list[dict[str, Any]]] = {}
    for fact in facts:
        path = Path(fact["path"])
        if "sha256" in fact and (kind := KINDS.get(path.suffix)):
            files.setdefault((kind, path.parent if kind == "model" else path), []).append(fact)
    for (kind, place), those in files.items():
        artifact = wandb.Artifact(_name(run, place), type=kind, metadata={"files": those})
        # What it is known by. The files themselves stay here unless they are asked for.
        with artifact.new_file("files.json") as described:
            json.dump([[Path(fact["path"]).name, fact["sha256"]] for fact in those], described)
        for fact in those if run.tracking.upload else []:
            artifact.add_file(fact["path"])
        yield artifact


def _name(run: Run, place: Path) -> str:
    """Of an artifact: the path below the outputs, in what W&B allows."""
    within = place.absolute()
    with contextlib.suppress(ValueError):
        within = within.relative_to(run.output_dir.absolute())
    plain = re.sub(r"[^\w.-]+", "-", "-".join(within.parts), flags=re.ASCII).strip("-")
    if str(within).isascii() and len(plain) <= NAME_LENGTH:
        return plain
    return f"{plain[-NAME_LENGTH + 9 :]}-{fingerprint.of(str(within))[:8]}"


def finish(session: Any, exit_code: int) -> None:
    """End the run, and say so if not all of it arrived."""
    try:
        session.finish(exit_code)
        lost = _lost(session)
    except Exception as error:
        lost = first_line(error)
    if lost:
        say(f"W&B did not take all of it ({lost}). It is here; to send it: {_sync(session)}")


def _lost(session: Any) -> str | None:
    """Why W&B gave up sending, which it says in its log alone; None if it did not."""
    log = Path(session.settings.log_internal)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    found = next((line for line in lines if "fatal error" in line and '"ERROR' in line), None)
    return str(json.loads(found)["msg"])[:200] if found else None


def _sync(session: Any) -> str:
    return f"wandb sync {session.settings.sync_dir}"


def first_line(error: Exception) -> str:
    """Of what an error says."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def _has_key() -> bool:
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    logged_in = netrc.is_file() and "wandb" in netrc.read_text(encoding="utf-8", errors="replace")
    return bool(os.environ.get("WANDB_API_KEY")) or logged_in
