"""What decides a content, in a few characters: for data and models guarded against mixing."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

SAMPLES = 64  # blocks read of a weight file
BLOCK = 64 * 1024  # bytes


def of(content: Any) -> str:
    """16 hex digits that any change of ``content`` (JSON values, paths) changes."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex; one that has not changed is read once."""
    facts = path.stat()
    return _of_bytes(path, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _of_bytes(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_stat(path: Path) -> str:
    """A file by its size and time of change: for images by the hundred thousand."""
    facts = path.stat() if path.exists() else None
    return f"{facts.st_size}/{facts.st_mtime_ns}" if facts else "missing"


def of_model(path: str | None) -> str:
    """A model folder's content, or the hub name itself when it is no folder.

    Weight files are sampled (size and 64 blocks of 64 KiB spread evenly), so that 150 GB take
    a moment: training changes every matrix, and so the samples.
    """
    folder = Path(path or "")
    if not path or not folder.is_dir():
        return str(path)
    return of({file.name: _sampled(file) for file in sorted(folder.iterdir()) if file.is_file()})


def _sampled(file: Path) -> str:
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        for k in range(SAMPLES):
            stream.seek(max(0, size - BLOCK) * k // (SAMPLES - 1))
            digest.update(stream.read(BLOCK))
    return digest.hexdigest()
