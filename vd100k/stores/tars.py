"""Images that are members of tar files, as WebDataset writes them: found once, then read by their offset."""

from __future__ import annotations

import os
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import xxhash

from vd100k.stores.urls import StoreError

BLOCK = 512  # bytes; the header of a member is one block, directly before its content
KEPT = 32  # tar files whose index is kept
RECENT = 4096  # members that are looked up in a dictionary before they are sorted in


class Index:
    """The offsets of the members of a tar file by their names, in 16 bytes each. It can be read while it is filled."""

    def __init__(self) -> None:
        self._recent: dict[int, int] = {}
        self._sorted = np.empty(0, np.uint64), np.empty(0, np.uint64)
        self.is_complete = False

    def add(self, name: str, offset: int) -> bool:
        """Add a member, and return whether its name is new."""
        if self.find(name) is not None:
            return False
        self._recent[_key(name)] = offset
        if len(self._recent) > max(RECENT, len(self._sorted[0]) // 8):
            self._sort()
        return True

    def find(self, name: str) -> int | None:
        """The offset of a member's content; None if it is not known."""
        key, recent = _key(name), self._recent  # before the sorted ones, which the recent ones are moved to
        if (offset := recent.get(key)) is not None:
            return offset
        keys, offsets = self._sorted
        at = int(np.searchsorted(keys, np.uint64(key)))
        return int(offsets[at]) if at < len(keys) and keys[at] == key else None

    def _sort(self) -> None:
        recent = self._recent
        keys = np.concatenate([self._sorted[0], np.fromiter(recent, np.uint64, len(recent))])
        offsets = np.concatenate([self._sorted[1], np.fromiter(recent.values(), np.uint64, len(recent))])
        order = np.argsort(keys, kind="stable")
        self._sorted = keys[order], offsets[order]
        self._recent = {}


_indexes: OrderedDict[tuple[str, int, int], Index] = OrderedDict()  # by the path, the size and the time of a file
_changing = threading.Lock()


def names(path: str, column: str | None) -> Iterator[str]:
    """The names of the members of a tar file, in its order, as they are found; they can be read from then on.

    Of members with the same name, the first one counts.

    Raises:
        StoreError: the file is broken; the members before that have been named.
    """
    index, facts = Index(), os.stat(path)
    with _changing:
        _keep(path, facts, index)
    for name, offset in _members(path):
        if index.add(name, offset):
            yield name
    index.is_complete = True


def read(path: str, name: str, facts: os.stat_result) -> bytes:
    """The content of a member of a tar file with these ``facts``.

    Raises:
        StoreError: there is no such member, or the file ends before its end.
    """
    offset = _offset(path, name, facts)
    if offset is None:
        raise StoreError("the tar file has no such member (any more)")
    file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        size = tarfile.TarInfo.frombuf(os.pread(file, BLOCK, offset - BLOCK), "utf-8", "surrogateescape").size
        content = os.pread(file, size, offset)
    finally:
        os.close(file)
    if len(content) < size:
        raise StoreError("the tar file is truncated: it ends in the middle of this image")
    return content


def _offset(path: str, name: str, facts: os.stat_result) -> int | None:
    """The offset of a member; the file is searched through unless that was done already."""
    index = _indexes.get(_identity(path, facts))
    found = index.find(name) if index else None
    if found is not None or (index and index.is_complete):
        return found
    with _changing:
        index = _indexes.get(_identity(path, facts))
        if index is None or not index.is_complete:
            index = _searched(path)
        _keep(path, facts, index)
    return index.find(name)


def _searched(path: str) -> Index:
    index = Index()
    try:
        for name, offset in _members(path):
            index.add(name, offset)
    except StoreError:
        pass  # what is before the end can be read
    index.is_complete = True
    return index


def _members(path: str) -> Iterator[tuple[str, int]]:
    """The name and the offset of each regular file; names as ``./a.png`` are those without the dot.

    Raises:
        StoreError: the file is no tar file, or ends in the middle of a member.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps a kilobyte a member
                name = member.name.removeprefix("./")
                if member.isreg() and not member.issparse() and not {"..", "", "."} & set(name.split("/")):
                    yield name, member.offset_data
            _check_end(path, tar.offset)
    except tarfile.TarError as error:
        raise StoreError(f"no tar file, or a broken or truncated one: {error}") from error


def _check_end(path: str, offset: int) -> None:
    """Raise an error unless a tar file ends at ``offset``, which tarfile believes of any incomplete header."""
    with open(path, "rb") as file:
        file.seek(offset)
        rest = file.read(BLOCK)
    if rest.strip(b"\0") or len(rest) % BLOCK:
        raise tarfile.ReadError(f"its last header, at byte {offset:,}, is incomplete")


def _keep(path: str, facts: os.stat_result, index: Index) -> None:
    _indexes[_identity(path, facts)] = index
    _indexes.move_to_end(_identity(path, facts))
    while len(_indexes) > KEPT:
        _indexes.popitem(last=False)


def _identity(path: str, facts: os.stat_result) -> tuple[str, int, int]:
    return path, facts.st_size, facts.st_mtime_ns


def _key(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode(errors="surrogatepass"))
