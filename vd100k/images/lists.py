"""The images and groups that a .jsonl or .csv list names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vd100k.images.groups import ImageRef, Reject, joined, names
from vd100k.images.paths import outside_detail
from vd100k.io import tables
from vd100k.io.jsonl import Fault, Row
from vd100k.io.key_set import KeySet, row_key
from vd100k.stores import urls


def images_of(source: Path, folder: str, reject: Reject) -> Iterator[ImageRef]:
    """The images and groups that a list names; links are checked when an image is read (``links_outside``)."""
    seen, whole, base = KeySet(), KeySet(), folder if urls.is_url(folder) else os.path.normpath(Path(folder).absolute())
    for number, row in tables.read(source, [("image", "images")], "Name the column with the image files so."):
        where = f"{source.name}, line {number}"
        if isinstance(row, Fault):
            reject(where, row.reason, row.detail)
            continue
        found = _listed(row, base, folder)
        if isinstance(found, Fault):
            reject(found.raw or where, found.reason, f"{where}: {found.detail}")
        elif not found.others and not found.questions:
            if seen.add(row_key(found.id)):
                yield found
        elif whole.add(row_key(repr(found))):  # not a repetition of an earlier line
            if seen.add(row_key(found.id)):
                yield found
            else:
                detail = f"{where}: an earlier line has the id {found.id} too, and other images or questions"
                reject(where, "repeated_id", detail)  # the id is that of the earlier line


def _listed(row: Row, base: str, folder: str) -> ImageRef | Fault:
    """The image or group on a line of a list, or what is wrong with it."""
    given, asked, own = names(row), row.get("questions") or (), row.get("id")
    if not given:
        detail = f'no "image" or "images", which name image files; {tables.columns_found(row)}'
        return Fault("incomplete", detail, "")
    ids = [id for name in given if (id := _id(base, name)) is not None]
    if len(ids) < len(given):
        return Fault("image_outside", outside_detail(folder), joined(given))
    texts = isinstance(asked, list | tuple) and all(isinstance(text, str) and text.strip() for text in asked)
    if not texts or len(set(asked)) < len(asked):
        return Fault("incomplete", '"questions" is not a list of different questions', joined(given))
    paths = tuple(f"{base}/{id}" for id in ids)
    named = isinstance(own, str) and own and len(ids) > 1
    return ImageRef(str(own) if named else joined(ids), paths[0], paths[1:], tuple(asked))


def _id(base: str, name: str) -> str | None:
    """The path relative to ``base`` of an image given absolutely or relative to it; None if it is not below."""
    if name[0] != "/" and "./" not in name and "//" not in name:  # almost always
        return name
    if urls.is_url(name) or urls.is_url(base):
        return url[len(base) + 1 :] if (url := urls.below(base, name)) else None
    path = os.path.normpath(f"{base}/{name}" if name[0] != "/" else name)
    for root in (base, os.path.realpath(base)):
        if path.startswith(f"{root}/"):
            return path[len(root) + 1 :]
    return None
