"""The NVIDIA GPUs of this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass

from vd100k.engines.commands import Command, environment

FIELDS = "index,name,memory.total,compute_cap,uuid"
BFLOAT16_SINCE = 8.0  # compute capability of Ampere
TIMEOUT_S = 30


@dataclass(frozen=True)
class Gpu:
    index: str
    name: str
    memory_gb: int
    capability: float
    uuid: str


def visible() -> list[Gpu]:
    """The GPUs that nvidia-smi shows, limited to ``CUDA_VISIBLE_DEVICES``, in its order, if that is set."""
    found = list(filter(None, map(_parsed, _listed())))
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return found
    names = [name.strip() for name in wanted.split(",")]
    return [gpu for name in names for gpu in found if name == gpu.index or (name and gpu.uuid.startswith(name))]


def _listed() -> list[str]:
    """The lines of nvidia-smi, which is run without our keys; none if there is no such program, or it fails."""
    argv = ["nvidia-smi", f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        env = environment(Command(argv))
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
        return done.stdout.splitlines()
    return []


def _parsed(line: str) -> Gpu | None:
    with contextlib.suppress(ValueError):
        index, name, memory, capability, uuid = (part.strip() for part in line.split(","))
        return Gpu(index, name, int(memory) // 1024, float(capability), uuid)
    return None
