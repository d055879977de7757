"""What a folder holds besides images, counted by kind, so that no image is left out silently."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

LONGEST_SUFFIX = 8  # characters with the dot; what is longer is a part of the name
MOST_KINDS = 40  # more are counted as one, so that a million odd names take no memory


class Ignored(Counter[str]):
    """The number of ignored files by suffix (``.mov``) or by a word (``hidden``, ``broken links``, ``no suffix``).

    A hidden folder, or a link to a folder, counts as one, because nothing in it is looked at.
    """

    def add(self, entry: os.DirEntry[str]) -> None:
        """Count an entry of a folder."""
        self._count(_kind(entry))

    def add_name(self, name: str) -> None:
        """Count what is in an archive or in object storage, by its name."""
        self._count("hidden" if is_hidden(name) else _suffix(name.rpartition("/")[2]))

    def _count(self, kind: str) -> None:
        self[kind if kind in self or len(self) < MOST_KINDS else "others"] += 1

    def __str__(self) -> str:
        """A line such as ``4 files ignored: .mov 3, hidden 1``, the suffixes first; empty if there are none."""
        kinds = sorted(self.items(), key=lambda item: (not item[0].startswith("."), -item[1], item[0]))
        listed = ", ".join(f"{kind} {count:,}" for kind, count in kinds)
        return f"{self.total():,} {'file' if self.total() == 1 else 'files'} ignored: {listed}" if kinds else ""


def _kind(entry: os.DirEntry[str]) -> str:
    name = entry.name
    if name.startswith("."):  # among them a Mac's ._NAME, which holds no picture in spite of its suffix
        return "hidden"
    if entry.is_symlink() and not Path(entry.path).exists():
        return "broken links"
    if entry.is_dir():
        return "links to folders"
    if not entry.is_file():
        return "pipes and devices"
    return _suffix(name)


def is_hidden(path: str) -> bool:
    """Whether a file, or a folder that it is in, has a name with a dot in front."""
    return path[:1] == "." or "/." in path


def _suffix(name: str) -> str:
    _, dot, suffix = name.rpartition(".")
    if not dot:
        return "no suffix"
    return f".{suffix.lower()}" if suffix.isalnum() and len(suffix) < LONGEST_SUFFIX else "others"
