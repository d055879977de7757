"""The paths of images: what they are relative to, whether they stay inside a folder, and names that are no text."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from vd100k.stores import archives, urls

NOT_UTF8 = "the name is not UTF-8 text, which neither rows nor training files can hold"


def base_of(images: str) -> str:
    """The folder, or the URL, that the ids of the images of a source are relative to."""
    if urls.is_url(images):
        return images.rstrip("/")
    source = Path(images).expanduser()
    if source.is_dir():
        return str(source.absolute())
    named = archives.named(images)
    return named.folder if named else str(source.parent.absolute())


def folder_of(images: str, declared: str | None) -> str:
    """The folder, or the URL, that images must be in: the ``declared`` one, else that of the source."""
    if declared is None:
        return base_of(images)
    return declared.rstrip("/") if urls.is_url(declared) else str(Path(declared).expanduser().absolute())


def is_same(folder: str, other: str) -> bool:
    """Whether two folders, or URLs, are the same."""
    return folder == other or (not urls.is_url(folder) and Path(folder).resolve() == Path(other).resolve())


def within(folder: str, name: str) -> str | None:
    """The path of an image given absolutely or relative to ``folder``; None if it, or a link in it, leads outside."""
    if urls.is_url(folder) or urls.is_url(name):
        return urls.below(folder, name)
    try:
        real = Path(folder, name).resolve()
        return str(Path(folder).absolute() / name) if real.is_relative_to(Path(folder).resolve()) else None
    except (OSError, ValueError, RuntimeError):  # a loop of links, a null byte
        return None


def links_outside(folder: str, path: str) -> bool:
    """Whether a path below ``folder`` leads outside it through a link."""
    return not is_inside(folder, os.path.dirname(path)) or (os.path.islink(path) and within(folder, path) is None)


@functools.lru_cache(4096)
def is_inside(folder: str, name: str) -> bool:
    """Whether a folder is ``folder`` itself or below it; remembered, since many images are in the same one."""
    return folder == name or within(folder, name) is not None


def outside_detail(folder: str) -> str:
    """A sentence for an image that is not read because it lies outside ``folder``."""
    return f"not in {folder}, so it is not read; image_folder=FOLDER declares another"


def is_utf8(name: str) -> bool:
    """Whether a name of a file is text; other bytes are lone surrogates in it."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def printable(name: str) -> str:
    """A name as text: if it is not UTF-8, ``./`` and the name with such bytes as ``\\xNN`` and doubled backslashes.

    No two names look alike then, and none looks like an id, which never begins with ``./``.
    """
    if is_utf8(name):
        return name
    return "./" + os.fsencode(name).replace(b"\\", b"\\\\").decode(errors="backslashreplace")
