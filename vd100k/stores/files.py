"""The content of an image by its path: a file, a row or member of an archive, or an object in storage.

This is the only place that tells them apart. A path is tried as a file first, so files cost nothing more.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

from vd100k.io import fingerprint
from vd100k.stores import urls

# Opening a pipe would otherwise wait for a writer.
FLAGS = os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
VERSIONS = ("image_mtime_ns", "image_etag")  # the fields of a row that tell whether its image is untouched

Version = int | str  # the time of the last change in nanoseconds, or an object's ETag


class Store(NamedTuple):
    """How images in one kind of place are read: their content with its version, and the version alone."""

    field: str  # one of ``VERSIONS``
    read: Callable[[str], tuple[bytes, Version]]
    version: Callable[[str], Version]


def read(path: str) -> tuple[bytes, dict[str, Any]]:
    """The content of an image, and the field of a row that records its version.

    Raises:
        OSError: there is no such image, or it cannot be read.
        ValueError: it is a pipe or a device, which may never end.
    """
    try:
        file = os.open(path, FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        if (store := _store(path)) is None:
            raise
        content, version = store.read(path)
        return content, {store.field: version}
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("not a regular file")
        return _whole(file, facts.st_size), {"image_mtime_ns": facts.st_mtime_ns}
    finally:
        os.close(file)


def opened(path: Path | str) -> IO[bytes]:
    """An image to be read from its beginning.

    Raises:
        OSError: there is no such image, or it cannot be read.
        ValueError: it is a pipe or a device.
    """
    try:
        file = open(os.open(path, FLAGS), "rb")  # noqa: SIM115 (the caller closes it)
    except (FileNotFoundError, NotADirectoryError):
        if (store := _store(str(path))) is None:
            raise
        return io.BytesIO(store.read(str(path))[0])
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("not a regular file")
    return file


def version(path: str) -> Version:
    """What tells whether an image is untouched, without reading it.

    Raises:
        OSError: there is no such image, or its place cannot be reached.
    """
    try:
        return os.stat(path).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        if (store := _store(path)) is None:
            raise
        return store.version(path)


def sha256(path: str) -> str:
    """The hash of an image's content.

    Raises:
        OSError: it cannot be read.
    """
    return hashlib.sha256(read(path)[0]).hexdigest() if is_stored(path) else fingerprint.of_file(Path(path))


def exists(path: str) -> bool:
    """Whether there is an image at a path."""
    try:
        return os.path.isfile(path) or (is_stored(path) and version(path) is not None)
    except (OSError, ValueError):  # the name is too long or has a null byte, a folder or server is out of reach
        return False


def is_stored(path: str) -> bool:
    """Whether a path leads to object storage, or into an archive."""
    return _store(path) is not None


def _store(path: str) -> Store | None:
    """The store that a path leads to; None if it can only be a file."""
    if path.startswith(urls.OBJECTS):
        from vd100k.stores import objects

        return Store("image_etag", objects.read, objects.version)
    if path.startswith(urls.HUB):
        from vd100k.stores import hub

        return Store("image_etag", hub.read, hub.version)
    from vd100k.stores import archives

    return Store("image_mtime_ns", archives.read, archives.version) if archives.split(path) else None


def _whole(file: int, size: int) -> bytes:
    """The whole file; a single call is nearly always enough."""
    content = os.read(file, size)
    while len(content) < size and (more := os.read(file, size - len(content))):
        content += more
    return content
