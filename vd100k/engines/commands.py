"""Command lines and environment variables from the configuration. Pure functions; nothing is started here."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from vd100k.config.base import Inherits
from vd100k.config.run import Engine, Hardware, Run
from vd100k.config.stages import Export, Finetune
from vd100k.io.redaction import names_secret

# What any program needs: where programs, libraries and files are, and the language.
BASIC = ("PATH", "HOME", "USER", "LANG", "LC_*", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHON*")


@dataclass(frozen=True)
class Command:
    """A program's arguments, its own environment variables, and the names or patterns of ours that it inherits."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    inherits: list[str] = field(default_factory=lambda: list(BASIC))

    def __str__(self) -> str:
        """The command as it would be typed in a shell."""
        return shlex.join([*(f"{key}={value}" for key, value in self.env.items()), *self.argv]).replace(
            shlex.quote(sys.executable), "python"
        )


def environment(command: Command) -> dict[str, str]:
    """The environment of a program: its own variables and those of ours that it inherits, none of which is a key."""
    listed = command.inherits

    def passes(name: str) -> bool:
        return name in listed or (not names_secret(name) and any(fnmatchcase(name, pattern) for pattern in listed))

    return {name: value for name, value in os.environ.items() if passes(name)} | command.env


def _listed(inherits: Inherits) -> list[str]:
    return [name for name, passed in inherits.items() if passed]


def flags(args: dict[str, Any], style: str) -> list[str]:
    """Option names and values as arguments: null omits an option, lists become several values, maps become JSON.

    The ``style`` ``kebab`` suits argparse with switches (``--enforce-eager``, ``--no-enforce-eager``),
    ``snake`` suits the parser of Hugging Face, where true is a value (``--merge_lora true``), and
    ``switch`` suits click, where a false switch is omitted.
    """
    argv = []
    for key, value in args.items():
        if value is None:
            continue
        name = f"--{key.replace('_', '-') if style == 'kebab' else key}"
        if isinstance(value, bool) and style == "kebab":
            argv.append(name if value else f"--no-{name[2:]}")
        elif isinstance(value, bool) and style == "switch":
            argv += [name] if value else []
        elif isinstance(value, bool):
            argv += [name, str(value).lower()]
        elif isinstance(value, list):
            argv += [name, *map(str, value)]
        elif isinstance(value, dict):
            argv += [name, json.dumps(value)]
        else:
            argv += [name, str(value)]
    return argv


RUN_FOLDER = "RUN_FOLDER"  # placeholder for the run's folder in options that name a file there


def describe_server(run: Run) -> list[str]:
    """The lines of a dry run about the server: the given URLs, or the commands of the replicas to start."""
    if run.hardware.urls is None:
        return ["start these replicas for the duration, unless the model is already served:", *map(str, replicas(run))]
    return [f"send requests for {run.served_name} to {url}" for url in run.hardware.urls]


def replicas(run: Run, folder: Path = Path(RUN_FOLDER)) -> list[Command]:
    """One server command per replica, with devices and ports assigned in order.

    For an engine with ``steps``, the commands are these steps. ``folder`` is the folder of ``Engine.files``.
    """
    hardware, engine = run.hardware, run.hardware.engine
    assert engine is not None
    if engine.steps:
        return [Command(step) for step in engine.steps]
    args = engine.args | ((engine.adapter_args or {}) if run.weights == "adapter" else {})
    args = {k: v.replace(RUN_FOLDER, str(folder)) if isinstance(v, str) else v for k, v in args.items()}
    return [_replica(hardware, engine, args, k, port) for k, port in enumerate(hardware.ports)]


def shared_replica(run: Run, address: str) -> list[Command]:
    """The command of each machine that shares the replicas of a run; the first is at ``address`` and has the URL."""
    engine = run.hardware.engine
    assert engine is not None
    assert engine.multi_node is not None
    started = []
    for rank in range(run.cluster.nodes_per_replica):
        facts = {"RANK": rank, "ADDRESS": address}
        own = engine.multi_node.args | (engine.multi_node.others if rank else {})
        args = engine.args | {key: facts.get(str(value), value) for key, value in own.items()}
        changes = {"module": engine.multi_node.module, "words": engine.multi_node.words, "args": args}
        hardware = run.hardware.model_copy(update={"engine": engine.model_copy(update=changes)})
        started += replicas(run.model_copy(update={"hardware": hardware}))
    return started


def backend(hardware: Hardware) -> str:
    """The address that replicas listen on: behind nginx, only this machine needs to reach them."""
    return "127.0.0.1" if hardware.balanced else str(hardware.host)


def _replica(hardware: Hardware, engine: Engine, args: dict[str, Any], k: int, port: int) -> Command:
    env = _env(engine.env)
    per = hardware.gpus_per_replica
    if per:
        env = {"CUDA_VISIBLE_DEVICES": _visible(map(str, range(k * per, (k + 1) * per))), **env}
    else:
        env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // hardware.replicas)))
    if per > 1 and engine.gpus_option:
        args = {engine.gpus_option: per} | args
    start = [engine.python or sys.executable, "-m", str(engine.module), *engine.words]
    own = ({engine.host_option: backend(hardware)} if engine.host_option else {}) | {"port": port}
    return Command([*start, *flags({**args, **own}, engine.flags)], env, _listed(engine.inherits))


def _env(options: dict[str, Any]) -> dict[str, str]:
    """Environment variables: null omits a variable, the entries of a list are joined with commas."""
    return {
        key: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in options.items()
        if value is not None
    }


def _visible(wanted: Iterable[str]) -> str:
    """``CUDA_VISIBLE_DEVICES`` for the given device numbers, which count within the devices visible to us."""
    ours = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    seen = ours.split(",") if ours else []
    return ",".join(seen[int(k)] if k.isdigit() and int(k) < len(seen) else k for k in wanted)


def swift_faults() -> list[str]:
    """What to do if ms-swift, which trains and exports, is not installed."""
    if importlib.util.find_spec("swift"):
        return []
    return ["ms-swift, which trains and exports, is not installed here: pip install -e '.[train]'"]


METHODS = {"sft": ["sft"], "dpo": ["rlhf", "--rlhf_type", "dpo"]}


def train(stage: Finetune, folder: Path, resume_from: Path | None = None) -> Command:
    """``swift sft`` or ``swift rlhf --rlhf_type dpo``, which writes its checkpoints to ``folder``."""
    args = {**stage.args, "output_dir": str(folder), "resume_from_checkpoint": resume_from}
    env = _env(stage.env)
    if stage.cuda_devices is not None:
        env = {"CUDA_VISIBLE_DEVICES": _visible(str(stage.cuda_devices).split(",")), **env}
    argv = [sys.executable, "-m", "swift.cli.main", *METHODS[stage.method], *flags(args, "snake")]
    return Command(argv, env, _listed(stage.inherits))


def export(stage: Export, folder: Path) -> Command:
    """``swift export``, which merges an adapter into its base model and writes the result to ``folder``."""
    args = flags({**stage.args, "output_dir": str(folder)}, "snake")
    argv = [sys.executable, "-m", "swift.cli.main", "export", *args]
    return Command(argv, _env(stage.env), _listed(stage.inherits))
