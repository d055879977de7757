"""What a question is about: one image, or a group of images in their order.

Groups are named in a list, or found in a folder by a rule.
"""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

# Between the names of a group's images in one text: an id, or a cell of a .csv list. A file that came from Windows
# cannot have it in its name, and no spreadsheet separates columns with it, as some do with semicolons.
SEPARATOR = "|"
FOLDER = "folder"  # the rule by which the images of a folder are a group
LITERAL = re.compile(r"[\w -]+")

# Called for an image, or a line of a list, that is not used: its id (or the line), the reason in one word, a sentence.
Reject = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image file and its id, the path relative to the folder it was found in; or a group of image files.

    ``others`` are the paths of a group's further images. ``questions`` are those that a list asks about it, as the
    turns of one conversation.
    """

    id: str
    path: str
    others: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of all images, in their order."""
        return (self.path, *self.others)


def names(row: dict[str, Any]) -> list[str]:
    """The images that a row names in ``images`` (a list, or text with ``|`` between them), else in ``image``.

    The list is empty if the row names none, or names one that is not text.
    """
    several = row.get("images")
    if isinstance(several, str):
        several = [name.strip() for name in several.split(SEPARATOR)] if several else None
    if several is None:
        one = row.get("image")
        return [one] if isinstance(one, str) and one else []
    usable = isinstance(several, list) and all(isinstance(name, str) and name for name in several)
    return list(several) if usable else []


def joined(ids: Iterable[str]) -> str:
    """The id of a group that has none of its own: the ids of its images with ``|`` between them."""
    return SEPARATOR.join(ids)


def as_fields(paths: tuple[str, ...]) -> dict[str, Any]:
    """The field of a row that names its image or images."""
    return {"image": paths[0]} if len(paths) == 1 else {"images": list(paths)}


@dataclass(frozen=True)
class Rule:
    """Which images of a folder form a group, and in which order.

    ``folder``: those in the same sub-folder, by name. A regular expression: those whose names, without the ending,
    match it with the same text in the first parentheses; ordered by what is in the second ones: as ``before|after``
    lists it, or by number, else by name.
    """

    text: str

    def place(self, id: str) -> tuple[str, float] | None:
        """The name of an image's group and its rank in it; None if it belongs to no group."""
        if self.text == FOLDER:
            folder = id.rpartition("/")[0]
            return (folder, 0) if folder else None
        found = re.fullmatch(self.text, str(PurePosixPath(id).with_suffix("")))
        if not found or not found[1]:
            return None
        part = (found[2] or "") if len(found.groups()) > 1 else ""
        members = self.members
        return found[1], members.index(part) if part in members else int(part) if part.isdecimal() else 0

    @functools.cached_property
    def members(self) -> list[str]:
        """The texts that the second parentheses list, such as before and after; empty if they list none."""
        parts = [part.split("|") for part in re.findall(r"\(([^()]+)\)", self.text)[1:2]]
        listed = parts[0] if parts else []
        return listed if len(listed) > 1 and all(map(LITERAL.fullmatch, listed)) else []


def grouped(images: Iterable[ImageRef], rule: Rule, reject: Reject) -> Iterator[ImageRef]:
    """The groups of images, by name; images without a group, and incomplete groups, go to ``reject``.

    The images are sorted on disk, because those of a group may be far apart.
    """
    least = max(2, len(rule.members))
    with sqlite3.connect("", check_same_thread=False) as table:  # a temporary file, deleted with the connection
        table.execute("CREATE TABLE images (name TEXT, rank REAL, id TEXT, path TEXT)")
        table.executemany("INSERT INTO images VALUES (?, ?, ?, ?)", _placed(images, rule, reject))
        table.execute("CREATE INDEX places ON images (name, rank, id)")
        found = table.execute("SELECT name, id, path FROM images ORDER BY name, rank, id")
        for name, rows in groupby(found, key=lambda row: row[0]):
            ids, paths = zip(*((id, path) for _, id, path in rows), strict=True)
            if len(paths) < least:
                detail = f"a group by {rule.text} has at least {least} images, and this one only {', '.join(ids)}"
                reject(str(name), "group_incomplete", detail)
            else:
                yield ImageRef(str(name), paths[0], paths[1:])


def _placed(images: Iterable[ImageRef], rule: Rule, reject: Reject) -> Iterator[tuple[str, float, str, str]]:
    for image in images:
        place = rule.place(image.id)
        if place:
            yield *place, image.id, image.path
        else:
            reject(image.id, "not_grouped", f"its name puts it into no group by {rule.text}")
