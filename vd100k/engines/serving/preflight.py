"""Checks before an engine starts, which report all problems together."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vd100k.config.run import Engine, Run
from vd100k.console import say
from vd100k.engines import gpus
from vd100k.engines.commands import Command, environment
from vd100k.engines.gpus import BFLOAT16_SINCE
from vd100k.engines.serving.ports import binding_error
from vd100k.errors import ServerError
from vd100k.io import hub as hubs
from vd100k.models import model_folder as weights

KEY = "hardware.engine"
IDLE_TIMEOUT_S = 75.0  # TIME_WAIT takes a minute
POLL_S = 0.5


def check(run: Run, balanced: bool) -> None:
    """Raise ServerError with all problems that would keep the run's engine from starting here."""
    engine = run.hardware.engine
    assert engine is not None
    found = list(_lasting_faults(run, engine))
    if not engine.steps:
        found += _ports(run, run.hardware.ports)
        found += _front(run) if balanced else ()
        folder = Path(run.model_path or "").expanduser()
        try:
            found += (
                _model(run, engine, folder) if folder.is_dir() else hubs.faults(run.model.source, run.model_path or "")
            )
        except (TypeError, ValueError, AttributeError) as error:  # a value of another type than every model has
            found.append(f"{folder / 'config.json'} cannot be read ({error}): download it again")
    if found:
        raise ServerError(_described(run, engine, found))
    if not engine.rebinds_port:
        for port in run.hardware.ports:
            _await_idle(port)


def check_front(run: Run) -> None:
    """Raise ServerError with all problems that would keep nginx from starting here."""
    if found := list(_front(run)):
        raise ServerError("\n".join(["nginx cannot be started here:", *(f"  - {fault}" for fault in found)]))


def _front(run: Run) -> Iterator[str]:
    yield from _ports(run, [run.hardware.port or 0])
    if not shutil.which("nginx"):
        yield "nginx is not installed: install it, or set hardware.balancer=none"


def lasting_faults(run: Run) -> list[str]:
    """The problems that no earlier step can change, in one message: the engine, its key and the GPUs."""
    engine = run.hardware.engine
    assert engine is not None
    found = list(_lasting_faults(run, engine))
    return [_described(run, engine, found)] if found else []


def _lasting_faults(run: Run, engine: Engine) -> Iterator[str]:
    if engine.steps:
        yield (
            f"{engine.name} is not started from here: run the commands that dry_run=true shows on a machine with "
            f"TensorRT-LLM ({engine.install}), then use hardware=api 'hardware.urls=[http://HOST:PORT/v1]'"
        )
        return
    yield from _engine(engine)
    yield from _key(run, engine)
    if run.hardware.gpus_per_replica and run.hardware.preflight:
        yield from _gpus(run)


def _described(run: Run, engine: Engine, found: list[str]) -> str:
    heading = f"model={run.model.name} cannot be served by {engine.name} on hardware={run.hardware.name}:"
    return "\n".join([heading, *(f"  - {fault}" for fault in found)])


def _engine(engine: Engine) -> Iterator[str]:
    elsewhere = f"choose another engine (engine@hardware.engine=swift), or set its interpreter ({KEY}.python=PATH)"
    if engine.python is None:
        if importlib.util.find_spec(engine.package) is None:
            yield f"the engine {engine.name} is not installed here: install it ({engine.install}), {elsewhere}"
    elif not shutil.which(engine.python):
        yield f"{KEY}.python={engine.python} is not an interpreter: set it to one that has {engine.package}"
    elif not _has(engine.python, engine.package):
        yield f"{engine.python} has no {engine.package}: install it with that interpreter ({engine.install})"


def _has(python: str, package: str) -> bool:
    code = f"import importlib.util; print(importlib.util.find_spec({package!r}) is not None)"
    try:
        return _asked([python, "-c", code], check=False) == "True"
    except subprocess.TimeoutExpired:
        return False


def _asked(argv: list[str], check: bool) -> str:
    """What a program prints; it is run without our keys."""
    env = environment(Command(argv))
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=check, timeout=30).stdout.strip()


def _key(run: Run, engine: Engine) -> Iterator[str]:
    name = run.model.api_key_env
    if name and not engine.key_env:
        yield (
            f"{engine.name} accepts an API key only on its command line, which all users of the machine can read: "
            "remove model.api_key_env and keep hardware.host=127.0.0.1, or use vllm"
        )
    elif name and not os.environ.get(name):
        yield f"model.api_key_env={name} is not set: export {name}=…, the key that clients must send"


def _probe_host(run: Run) -> str:
    """The address at which a server that occupies one of the ports would respond."""
    host = str(run.hardware.host)
    return "127.0.0.1" if host == "0.0.0.0" or run.hardware.balanced else host


def _ports(run: Run, ports: list[int]) -> Iterator[str]:
    for port in ports:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((_probe_host(run), port)) == 0:
                yield f"port {port} is in use: stop the program on it, or choose another port (hardware.port=PORT)"


def _await_idle(port: int) -> None:
    """Wait until the port is no longer in TIME_WAIT.

    Raises:
        ServerError: it is still in use after ``IDLE_TIMEOUT_S``.
    """
    end, said = time.monotonic() + IDLE_TIMEOUT_S, False
    while error := binding_error(port):
        if time.monotonic() > end:
            raise ServerError(f"Port {port} is still in use: {error}. Choose another port: hardware.port=PORT.")
        if not said:
            say(f"waiting for port {port}: the kernel keeps it for a minute after the last server …")
            said = True
        time.sleep(POLL_S)


def _gpus(run: Run) -> Iterator[str]:
    hardware = run.hardware
    wanted = hardware.replicas * hardware.gpus_per_replica
    found = gpus.visible()
    if len(found) < wanted:
        there = ", ".join(f"{gpu.index}: {gpu.name}" for gpu in found) or "none"
        yield (
            f"{wanted} GPUs are needed (hardware.replicas={hardware.replicas} x "
            f"hardware.gpus_per_replica={hardware.gpus_per_replica}), but nvidia-smi shows {len(found)} ({there}): "
            "choose another machine (hardware=NAME) or fewer replicas (hardware.preflight=false skips this check)"
        )
    old = next((gpu for gpu in found[:wanted] if gpu.capability < BFLOAT16_SINCE), None)
    if old and hardware.dtype == "bfloat16":
        yield (
            f"hardware.dtype=bfloat16 needs compute capability {BFLOAT16_SINCE}, but GPU {old.index} ({old.name}) has "
            f"{old.capability}: set hardware.dtype=half"
        )


def _model(run: Run, engine: Engine, folder: Path) -> Iterator[str]:
    """Conflicts between the settings and the model's configuration; the folder is already known to be complete."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config") or config
    scaling = text.get("rope_scaling") or {}
    longest = int(text.get("max_position_embeddings") or 0) * (scaling.get("factor") or 1)
    wanted = run.hardware.max_model_len if run.hardware.max_model_len in engine.args.values() else None
    if wanted and longest and wanted > longest:
        yield f"hardware.max_model_len={wanted} exceeds the model's {longest} (max_position_embeddings): lower it"
    if "template" not in engine.args and not weights.has_chat_template(folder):
        yield f"{folder}: the chat template is missing: download chat_template.jinja (or tokenizer_config.json)"
    heads, split = text.get("num_attention_heads"), run.hardware.gpus_per_replica
    if engine.gpus_option and heads and split > 1 and heads % split:
        yield (
            f"hardware.gpus_per_replica={split} does not divide the model's {heads} attention heads: choose "
            f"{', '.join(str(n) for n in (1, 2, 4, 8) if not heads % n)}"
        )
