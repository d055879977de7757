"""Files that hold many images: tar files, as WebDataset writes them, and Parquet files with a column of images."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from vd100k.stores.urls import StoreError

SUFFIXES = (".tar", ".parquet")
INSIDE = re.compile(r"\.(?:tar|parquet)/", re.IGNORECASE)
COLUMN = re.compile(r"(.+\.parquet)/([^/]+)", re.IGNORECASE)  # a column of images, if a file has several
ROW = re.compile(r"\.parquet/.+/\d+$", re.IGNORECASE)
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
DECOMPRESS = (
    "the members of a compressed tar file cannot be read one by one: decompress it (gunzip FILE). Images are "
    "compressed already, so it hardly becomes larger"
)

Reject = Callable[[str, str, str], None]  # an id, the reason in one word, a sentence
IsImage = Callable[[str], bool]  # by its name


class Archives(NamedTuple):
    """Archives below a folder, in the order of their names; of Parquet files perhaps the column with the images."""

    folder: str
    paths: list[str]
    column: str | None = None

    def names(self, reject: Reject) -> Iterator[str]:
        """The paths of all members and rows relative to ``folder``: the archive's, a slash, and the name within it.

        An archive that cannot be read, or not to its end, goes to ``reject``.
        """
        for path in self.paths:
            name = os.path.relpath(path, self.folder)
            try:
                for inner in _kind(path).names(path, self.column):
                    yield f"{name}/{inner}"
            except OSError as error:
                reject(name, "image_unreadable", f"{path}: {error.strerror or error}")

    def count(self, is_image: IsImage) -> int:
        """About how many images there are: the rows of Parquet files; of tar files, as many a byte as in the first."""
        counted, first = 0, 0.0
        for path in self.paths:
            if path.lower().endswith(".parquet"):
                counted += _kind(path).count(path)
                continue
            size = os.path.getsize(path)
            first = first or sum(map(is_image, _kind(path).names(path, None))) / max(1, size)
            counted += round(first * size)
        return counted


def named(images: str) -> Archives | None:
    """The archives that ``images`` names: one file, or a pattern such as ``shards/*.tar``; None if it names none."""
    text = str(Path(images).expanduser())
    column = None
    if (found := COLUMN.fullmatch(text)) and not os.path.exists(text):
        text, column = found[1], found[2]
    if not text.lower().endswith(SUFFIXES) or os.path.isdir(text):
        return None
    if os.path.isfile(text):
        return Archives(os.path.dirname(os.path.abspath(text)), [os.path.abspath(text)], column)
    if not glob.has_magic(text):
        return None
    paths = sorted(os.path.abspath(path) for path in glob.iglob(text, recursive=True) if os.path.isfile(path))
    return Archives(os.path.abspath(_fixed(text)), paths, column)


def below(folder: str) -> Archives:
    """All archives below a folder, except hidden ones."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        found += [os.path.join(root, name) for name in files if name[0] != "." and name.lower().endswith(SUFFIXES)]
    return Archives(folder, sorted(found))


def is_row(path: str) -> bool:
    """Whether a path has the form of a row of a Parquet file."""
    return path[-1:].isdecimal() and ROW.search(path) is not None


def split(path: str) -> tuple[str, str] | None:
    """The archive that a path leads through, and the name of the image within it; None if there is no archive."""
    for found in INSIDE.finditer(path):
        archive = path[: found.end() - 1]
        if os.path.isfile(archive):
            return archive, path[found.end() :]
    return None


def read(path: str) -> tuple[bytes, int]:
    """The content of an image, and the time at which its archive was changed, in nanoseconds.

    Raises:
        OSError: the archive is gone, has no such image, or is broken.
    """
    archive, name = _split(path)
    facts = os.stat(archive)
    return _kind(archive).read(archive, name, facts), facts.st_mtime_ns


def version(path: str) -> int:
    """The time at which the archive of an image was changed, in nanoseconds.

    Raises:
        OSError: the archive is gone.
    """
    return os.stat(_split(path)[0]).st_mtime_ns


def _split(path: str) -> tuple[str, str]:
    if (found := split(path)) is None:
        raise StoreError("the archive is gone")
    return found


def _kind(path: str) -> ModuleType:
    """The module that reads an archive; each takes some time to import."""
    if path.lower().endswith(".tar"):
        from vd100k.stores import tars

        return tars
    from vd100k.stores import parquet

    return parquet


def _fixed(pattern: str) -> str:
    """The folder at the beginning of a pattern, up to the first part with a wildcard."""
    folder = os.path.dirname(pattern)
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    return folder
