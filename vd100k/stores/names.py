"""The name of a data set, from where its images are."""

from __future__ import annotations

import glob
from pathlib import Path

from vd100k.io import tables
from vd100k.stores import archives


def dataset_name(images: str | int | None) -> str | None:
    """The default name of a data set: that of its folder, or of its list or archive without the suffix.

    For a pattern such as ``shards/*.tar``, it is the name of the folder in front.
    """
    if images is None:
        return None
    source = Path(str(images)).expanduser().resolve()
    if source.parent.suffix == archives.SUFFIXES[1] and not source.exists():  # a column of it
        source = source.parent
    if source.suffix in archives.SUFFIXES and not source.exists():  # a pattern, unlike a folder named "photos [new]"
        while glob.has_magic(source.name):
            source = source.parent
    is_file = source.suffix in (*tables.SUFFIXES, *archives.SUFFIXES) and not source.is_dir()
    return source.stem if is_file else source.name
