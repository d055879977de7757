"""Whether a model's weights fit the GPUs: a warning with the arithmetic before an engine or a trainer starts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

from vd100k.config.run import Run
from vd100k.io import hub

LOADS = ("serve", "generate", "chat", "finetune", "evaluate")  # stages
IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)[bB](?![A-Za-z0-9])")  # 7B, 2.5b; not A3B
QUANTIZED = re.compile(r"awq|gptq|int[48]|[48]bit|fp8|nvfp4", re.IGNORECASE)
INDEX = "model.safetensors.index.json"
WIDE = ("float32", "float")  # number formats of 4 bytes


def warnings(run: Run) -> list[str]:
    """A line for each model of the run, or of its parts, whose weights are larger than the memory of its GPUs."""
    return list(dict.fromkeys(_warnings(run)))


def _warnings(run: Run) -> Iterator[str]:
    for part in run.parts.values():
        yield from _warnings(part)
    hardware, stage = run.hardware, run.stage
    starts = stage.name in LOADS and getattr(stage, "action", "start") == "start" and hardware.urls is None
    if run.parts or not starts or not hardware.gpu_memory_gb or not hardware.gpus_per_replica:
        return
    trains = stage.name == "finetune"
    dtype = (hardware.train_dtype if trains else hardware.dtype) or "bfloat16"
    nodes = 1 if trains else run.cluster.nodes_per_replica
    count = len(str(stage.cuda_devices).split(",")) if stage.name == "finetune" else hardware.gpus_per_replica * nodes
    width = 4 if dtype in WIDE else 2
    share = 1.0 if trains else hardware.gpu_memory_utilization or 1.0
    room = count * hardware.gpu_memory_gb * share / width
    billions = parameters(run, room)
    if billions and billions > room:
        needed = math.ceil(billions * width / hardware.gpu_memory_gb / share)
        usable = f" (hardware.gpu_memory_utilization={share:g})" if share < 1 else ""
        more = (
            f"{run.key}.cuda_devices to {needed} GPUs"
            if trains
            else f"hardware.gpus_per_replica={_whole(-(-needed // nodes))}"
        )
        yield (
            f"warning: model={run.model.name}: {billions:g} B parameters × {width} bytes ({dtype}) = "
            f"{billions * width:.0f} GB do not fit {count} × {hardware.gpu_memory_gb:g} GB{usable}: "
            f"choose a smaller model, quantized weights (model.path=FOLDER), or set {more}"
        )


def _whole(gpus: int) -> int:
    """A number of GPUs, at least ``gpus``, that divides the attention heads of any usual model: a power of two."""
    return int(2 ** math.ceil(math.log2(gpus)))


def parameters(run: Run, room: float = 0) -> float | None:
    """The number of parameters in billions: from the weights' index on this machine, else from the model's name.

    A hub's cache is searched only if the name says nothing, or says more than ``room``.
    """
    path = run.model.path or ""
    named = [float(number) for number in IN_NAME.findall(Path(path).name)]
    in_name = max(named) if named and not QUANTIZED.search(Path(path).name) else None
    folder = Path(path) if Path(path).is_dir() else None
    if folder is None and path and not run.model.build and (not named or max(named) > room):
        folder = hub.cached(run.model.source, path)
    return _in_index(folder) if folder and (folder / INDEX).exists() else in_name


def _in_index(folder: Path) -> float | None:
    """The size of all weights by their index, as parameters of the format they are stored in; None if unknown."""
    try:
        size = json.loads((folder / INDEX).read_text(encoding="utf-8"))["metadata"]["total_size"]
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        width = 4 if (config.get("dtype") or config.get("torch_dtype")) in WIDE else 2
        return None if "quantization_config" in config else round(int(size) / width / 1e9, 1)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
