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
    count = len(str(stage.cuda_devices).split(",")) if stage.name == "finetune" else hardware.gpus_per_replica
    width = 4 if dtype in WIDE else 2
    billions = parameters(run)
    share = 1.0 if trains else hardware.gpu_memory_utilization or 1.0
    if billions and billions * width > count * hardware.gpu_memory_gb * share:
        needed = math.ceil(billions * width / hardware.gpu_memory_gb / share)
        usable = f" (hardware.gpu_memory_utilization={share:g})" if share < 1 else ""
        more = f"stage.cuda_devices with {needed} GPUs" if trains else f"hardware.gpus_per_replica={needed}"
        yield (
            f"warning: model={run.model.name}: {billions:g} B parameters × {width} bytes ({dtype}) = "
            f"{billions * width:.0f} GB do not fit {count} × {hardware.gpu_memory_gb:g} GB{usable}: "
            f"choose a smaller model, quantized weights (model.path=FOLDER), or set {more}"
        )


def parameters(run: Run) -> float | None:
    """The number of parameters in billions: from the weights' index on this machine, else from the model's name."""
    path = run.model.path or ""
    folder = Path(path) if Path(path).is_dir() else None
    if folder is None and run.model.path and run.model.source != "local":
        folder = hub.cached(run.model.source, path)
    if folder and (folder / INDEX).exists():
        try:
            size = json.loads((folder / INDEX).read_text(encoding="utf-8"))["metadata"]["total_size"]
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            stored = config.get("dtype") or config.get("torch_dtype")
            quantized = "quantization_config" in config
            return None if quantized else round(int(size) / (4 if stored in WIDE else 2) / 1e9, 1)
        except (OSError, ValueError, KeyError, TypeError):
            return None
    name = Path(path).name
    found = [float(number) for number in IN_NAME.findall(name)]
    return max(found) if found and not QUANTIZED.search(name) else None
