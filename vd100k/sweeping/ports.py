"""Ports of this machine for one of several jobs that choose theirs at the same time."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from vd100k.engines.serving.ports import binding_error

FIRST, LAST = 8000, 32_000  # above, systems choose ports for outgoing connections


@contextlib.contextmanager
def reserved(counts: dict[str, int]) -> Iterator[dict[str, int]]:
    """The first of so many consecutive free ports for each key; no other process gets them until the block ends.

    A port is reserved by the lock of a file, which ends with this process.

    Raises:
        OSError: too few are free.
    """
    folder, count = Path(tempfile.gettempdir()) / f"vd100k-ports-{os.getuid()}", sum(counts.values())
    folder.mkdir(exist_ok=True)
    for first in range(FIRST, LAST - count, max(1, count)):
        with contextlib.ExitStack() as stack:
            if _locked(stack, folder, range(first, first + count)):
                yield _divided(first, counts)
                return
    raise OSError(f"{count} consecutive ports are not free between {FIRST} and {LAST}")


def _locked(stack: contextlib.ExitStack, folder: Path, ports: range) -> bool:
    """Whether all these ports are free; no other process gets them until the stack is closed."""
    try:
        for port in ports:
            stack.enter_context(FileLock(folder / str(port), timeout=0))
    except Timeout:
        return False
    return all(binding_error(port) is None for port in ports)


def _divided(first: int, counts: dict[str, int]) -> dict[str, int]:
    divided = {}
    for key, count in counts.items():
        divided[key], first = first, first + count
    return divided
