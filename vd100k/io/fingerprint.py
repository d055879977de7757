"""Short hashes of settings, files and models, used to detect that data or a model has changed."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import stat
from pathlib import Path
from typing import Any

SAMPLES = 64  # blocks read from each file of a model
BLOCK = 64 * 1024  # bytes


def of(content: Any) -> str:
    """A hash of ``content`` (JSON values and paths) as 16 hex digits."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def of_file(path: Path) -> str:
    """The sha256 of a file's bytes in hex, cached until its size or modification time changes.

    Raises:
        OSError: the file cannot be read, or is not a regular file; a pipe, for example, may never end.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return _of_bytes(path, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _of_bytes(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_stat(path: Path) -> str:
    """The size and modification time of a file, or ``missing``: fast enough for hundreds of thousands of images."""
    facts = path.stat() if path.exists() else None
    return f"{facts.st_size}/{facts.st_mtime_ns}" if facts else "missing"


def of_model(path: str | None) -> str:
    """A hash of a model folder's files, or ``path`` itself if it is a hub name.

    Only the size and 64 evenly spaced blocks of 64 KiB are read from each file, so that 150 GB take a moment.
    This is enough, because training changes every matrix.
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
