"""What ``hardware=auto`` stands for: the settings that suit the machine this runs on."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

from vd100k.console import say
from vd100k.engines.commands import Command, environment
from vd100k.errors import ConfigError

AUTO = {"hardware=auto": "hardware"}  # what each sets
AUTO |= {f"hardware@{owner}.hardware=auto": f"{owner}.hardware" for owner in ("teacher", "judge")}
BFLOAT16_SINCE = 8.0  # compute capability of Ampere
BEFORE_AMPERE = {"dtype": "half", "train_dtype": "float16", "max_model_len": 4096}  # as in conf/hardware/t4x4.yaml
TIMEOUT_S = 30


@dataclass(frozen=True)
class Gpu:
    name: str
    memory_gb: int
    capability: float


def resolved(argv: list[str]) -> list[str]:
    """The arguments with ``hardware=auto`` replaced by what was found; the user's own arguments win.

    Raises:
        ConfigError: there is no GPU, and no engine for this machine without one.
    """
    said, option, values = describe(visible_gpus(), sys.platform, platform.machine())
    say(f"hardware=auto: {said}")
    found = []
    for argument in filter(AUTO.get, argv):
        found.append(f"{argument.partition('=')[0]}={option}")
        found += [f"{AUTO[argument]}.{key}={value}" for key, value in values.items()]
    return [*found, *(argument for argument in argv if argument not in AUTO)]


def describe(gpus: list[Gpu], system: str, processor: str) -> tuple[str, str, dict[str, object]]:
    """What was found, in words, and the option of the group hardware with the values that replace its own.

    Raises:
        ConfigError: there is no GPU, and no engine for this machine without one.
    """
    if gpus:
        old = min(gpu.capability for gpu in gpus) < BFLOAT16_SINCE
        memory = min(gpu.memory_gb for gpu in gpus)
        values: dict[str, object] = {"replicas": len(gpus), "gpu_memory_gb": memory}
        values |= {"balancer": "nginx"} if len(gpus) > 1 else {}
        values |= BEFORE_AMPERE if old else {}
        names = " + ".join(f"{count} × {name}" for name, count in Counter(gpu.name for gpu in gpus).items())
        each = " each" if len(gpus) > 1 else ""
        return f"{names}, {memory} GB{each}, {'float16' if old else 'bfloat16'}", "auto", values
    if system.startswith("darwin") and processor.startswith("arm"):
        return "Apple silicon, MLX (as hardware=m2-ultra)", "m2-ultra", {}
    if system.startswith("linux") and processor.lower() in ("x86_64", "amd64"):
        return "no NVIDIA GPU (as hardware=cpu, for tiny models)", "cpu", {}
    raise ConfigError(
        [
            f"hardware=auto: nvidia-smi shows no GPU, and no engine runs on {system} {processor} without one: "
            "choose hardware=api for a model on another machine, or hardware=NAME"
        ]
    )


def visible_gpus() -> list[Gpu]:
    """The NVIDIA GPUs that nvidia-smi shows, limited to ``CUDA_VISIBLE_DEVICES`` if that is set."""
    found = []
    for line in _query("name,memory.total,compute_cap"):
        with contextlib.suppress(ValueError):
            name, memory, capability = (part.strip() for part in line.rsplit(",", 2))
            found.append(Gpu(name, int(memory) // 1024, float(capability)))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not found:
        return found
    chosen = [name.strip() for name in visible.split(",") if name.strip()]
    uuids = [] if all(name.isdigit() for name in chosen) else _query("uuid")
    numbers = {name: int(name) for name in chosen if name.isdigit()}
    numbers |= {name: k for name in chosen for k, uuid in enumerate(uuids) if uuid.strip().startswith(name)}
    return [found[numbers[name]] for name in chosen if numbers.get(name, len(found)) < len(found)]


def _query(fields: str) -> list[str]:
    argv = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            argv, env=environment(Command(argv)), capture_output=True, text=True, check=True, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()
