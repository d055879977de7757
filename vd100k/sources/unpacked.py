"""Files for images that are inside data, in archives or in object storage: trainers read nothing but files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from vd100k.images import sniff
from vd100k.images.find import SUFFIXES
from vd100k.stores import files

DIGITS = 32  # of the hash of the content, which is the name of its file
PLAIN = {"image/png": ".png", "image/jpeg": ".jpg"}


def file_with(content: bytes, name: str, folder: Path) -> str:
    """The path of a file with this content, which gets its name only when it is complete; ``name`` has its suffix."""
    suffix = _suffix(name)
    if not suffix and (found := sniff.plain(content)):
        suffix = PLAIN[found[0]]
    path = folder.absolute() / f"{hashlib.sha256(content).hexdigest()[:DIGITS]}{suffix}"
    if not (path.exists() and path.stat().st_size == len(content)):
        folder.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            scratch.write_bytes(content)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
    return str(path)


def file_of(path: str, folder: Path, sha256: object) -> str:
    """The path of a file with the content of an image that is stored elsewhere; with a known hash it is read once.

    Raises:
        OSError: the image cannot be read.
    """
    if isinstance(sha256, str):
        suffixes = (_suffix(path),) if _suffix(path) else ("", *PLAIN.values())
        known = (folder.absolute() / f"{sha256[:DIGITS]}{suffix}" for suffix in suffixes)
        if found := next((file for file in known if file.is_file()), None):
            return str(found)
    return file_with(files.read(path)[0], path, folder)


def _suffix(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return suffix if suffix in SUFFIXES else ""
