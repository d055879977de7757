"""What ``hardware=auto`` stands for: the settings that suit the machine this runs on."""

from __future__ import annotations

import platform
import sys
from collections import Counter

from vd100k.console import say
from vd100k.engines import gpus
from vd100k.engines.gpus import BFLOAT16_SINCE, Gpu
from vd100k.errors import ConfigError

AUTO = {"hardware=auto": "hardware"}  # what each sets
AUTO |= {f"hardware@{owner}.hardware=auto": f"{owner}.hardware" for owner in ("teacher", "judge")}
BEFORE_AMPERE = {"dtype": "half", "train_dtype": "float16", "max_model_len": 4096}  # as in conf/hardware/t4x4.yaml


def resolved(argv: list[str]) -> list[str]:
    """The arguments with ``hardware=auto`` replaced by what was found; the user's own arguments win.

    Raises:
        ConfigError: there is no GPU, and no engine for this machine without one.
    """
    said, option, values = describe(gpus.visible(), sys.platform, platform.machine())
    say(f"hardware=auto: {said}")
    found = []
    for argument in filter(AUTO.get, argv):
        found.append(f"{argument.partition('=')[0]}={option}")
        found += [f"{AUTO[argument]}.{key}={value}" for key, value in values.items()]
    return [*found, *(argument for argument in argv if argument not in AUTO)]


def describe(found: list[Gpu], system: str, processor: str) -> tuple[str, str, dict[str, object]]:
    """What was found, in words, and the option of the group hardware with the values that replace its own.

    Raises:
        ConfigError: there is no GPU, and no engine for this machine without one.
    """
    if found:
        old = min(gpu.capability for gpu in found) < BFLOAT16_SINCE
        memory = min(gpu.memory_gb for gpu in found)
        values: dict[str, object] = {"replicas": len(found), "gpu_memory_gb": memory}
        values |= {"balancer": "nginx"} if len(found) > 1 else {}
        values |= BEFORE_AMPERE if old else {}
        names = " + ".join(f"{count} × {name}" for name, count in Counter(gpu.name for gpu in found).items())
        each = " each" if len(found) > 1 else ""
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
