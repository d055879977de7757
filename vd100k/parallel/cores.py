"""How many processors this program may use."""

from __future__ import annotations

import os


def core_count() -> int:
    """The number of cores that the system gives to this process, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
