"""The calls to W&B: start a run, log files as artifacts, finish the run, and report data that was not sent."""

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

START_S = 20.0  # limit for the connection at the start
FINISH_S = 60.0  # limit for sending the remaining data at the end
KINDS = {".safetensors": "model", ".jsonl": "dataset", ".json": "dataset", ".parquet": "dataset"}
NAME_LENGTH = 128

_unreachable = threading.Event()  # set once, so that later stages of this process do not wait again


def start_run(run: Run, folder: Path, run_id: str | None) -> Any:
    """Start a W&B run, or continue the one with ``run_id``: online if there is a key, otherwise offline.

    Raises:
        Exception: any error of W&B when it cannot write to ``folder`` either.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # this module prints the messages instead
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it reports failures of W&B's own statistics
    mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
    if mode == "online" and _unreachable.is_set():
        mode = "offline"
    try:
        session = _init(run, folder, run_id, mode)
    except Exception as error:
        if mode != "online":
            raise
        _unreachable.set()
        say(f"W&B cannot be reached, so this run is tracked offline: {first_line(error)}")
        session = _init(run, folder, run_id, mode := "offline")
    say(f"W&B: {session.url if mode == 'online' else f'offline; to upload the run: {_sync(session)}'}")
    return session


def _init(run: Run, folder: Path, run_id: str | None, mode: str) -> Any:
    import wandb

    session = wandb.init(
        project=run.tracking.project,
        entity=run.tracking.entity,
        group=run.tracking.group,
        job_type=run.stage.name,
        name=f"{run.stage.name}-{run.full_name}",
        id=run_id,
        resume="allow" if run_id else None,
        dir=str(folder),
        mode=mode,  # type: ignore[arg-type]
        config=settings(run),
        reinit="create_new",
        settings=wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            x_disable_meta=True,  # it contains the command line, which may contain secrets
            x_save_requirements=False,
            init_timeout=START_S,
            finish_timeout=0 if run.tracking.upload else FINISH_S,
            finish_timeout_raises=True,
            # By default, W&B retries for hours.
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


def log_artifacts(session: Any, run: Run, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
    """Log input and output files as artifacts. W&B derives the lineage from equal names and contents."""
    for used, facts in ((True, inputs), (False, outputs)):
        for artifact in _artifacts(run, facts):
            session._log_artifact(artifact, use_after_commit=used)  # the public use_artifact works online only


def _artifacts(run: Run, facts: list[dict[str, Any]]) -> Iterator[Any]:
    import wandb

    files: dict[tuple[str, Path], list[dict[str, Any]]] = {}
    for fact in facts:
        path = Path(fact["path"])
        if "sha256" in fact and (kind := KINDS.get(path.suffix)):
            files.setdefault((kind, path.parent if kind == "model" else path), []).append(fact)
    for (kind, place), facts_there in files.items():
        artifact = wandb.Artifact(_name(run, place), type=kind, metadata={"files": facts_there})
        # The names and hashes identify the artifact. The files themselves are sent only with tracking.upload.
        with artifact.new_file("files.json") as listing:
            json.dump([[Path(fact["path"]).name, fact["sha256"]] for fact in facts_there], listing)
        for fact in facts_there if run.tracking.upload else []:
            artifact.add_file(fact["path"])
        yield artifact


def _name(run: Run, place: Path) -> str:
    """The name of an artifact: its path below the outputs, in the characters and the length that W&B allows."""
    within = place.absolute()
    with contextlib.suppress(ValueError):
        within = within.relative_to(run.output_dir.absolute())
    plain = re.sub(r"[^\w.-]+", "-", "-".join(within.parts), flags=re.ASCII).strip("-")
    if str(within).isascii() and len(plain) <= NAME_LENGTH:
        return plain
    return f"{plain[-NAME_LENGTH + 9 :]}-{fingerprint.of(str(within))[:8]}"


def finish(session: Any, exit_code: int) -> None:
    """Finish the W&B run, and print a message if some of its data was not sent."""
    try:
        session.finish(exit_code)
        undelivered = _undelivered(session)
    except Exception as error:
        undelivered = first_line(error)
    if undelivered:
        say(f"W&B did not receive all data ({undelivered}). It is saved here; to upload it: {_sync(session)}")


def _undelivered(session: Any) -> str | None:
    """Why W&B stopped sending data, from its log, the only place that says it; None if all data was sent."""
    log = Path(session.settings.log_internal)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    found = next((line for line in lines if "fatal error" in line and '"ERROR' in line), None)
    return str(json.loads(found)["msg"])[:200] if found else None


def _sync(session: Any) -> str:
    return f"wandb sync {session.settings.sync_dir}"


def first_line(error: Exception) -> str:
    """The first line of the error message, or the name of its type if there is no message."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def _has_key() -> bool:
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    logged_in = netrc.is_file() and "wandb" in netrc.read_text(encoding="utf-8", errors="replace")
    return bool(os.environ.get("WANDB_API_KEY")) or logged_in
