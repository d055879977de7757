"""Which images of a collection are copies of each other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vd100k.io.key_set import KeySet
from vd100k.similarity import confirm, search
from vd100k.similarity.alignment import Alignment, align
from vd100k.similarity.cache import LookCache
from vd100k.similarity.look import LOOK, Pixels

ENTRY = np.dtype([("identity", "<u8"), ("look", "<u4"), ("side", "u1"), ("start", "<u8"), ("bytes", "<u4")])
HASHES = np.dtype([("whole", LOOK["hash"]), ("trimmed", LOOK["trimmed"])])
BLOCK = 1 << 16  # images at a time
PAIRS = 256  # pairs aligned at a time
REMEMBERED = 1 << 20  # pairs that have been compared, so that they are not compared again in the next pass

LITTLE_DETAIL = 3  # blocks of a thumbnail with something to see: fewer, and only equal files are copies
DIFFERENCE = 0.6  # of the contrast of a thumbnail, in any of its blocks after the alignment
GAIN, LEVEL = (0.7, 2.0), 60.0  # the change of brightness
MOVED = 0.1  # the largest shift, and change of size
PROPORTIONS = 1.2  # the widths divided by the heights, one by the other
MOST_DIFFERENT = 5  # comparisons of an image that show another one: pages of one form would be compared for ever


class Member(NamedTuple):
    """An image of a cluster: the key of its content or name, the side it is on, and its file."""

    identity: int
    side: int
    path: str


class Collection:
    """Collects images, each once, and finds those that are copies. What is known of an image is in temporary files."""

    def __init__(self, looks: LookCache) -> None:
        self._looks, self._identities = looks, KeySet()
        self._entries = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._paths = tempfile.TemporaryFile()  # noqa: SIM115
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._entries.close()
        self._paths.close()

    def __len__(self) -> int:
        return len(self._identities)

    def add(self, identity: int, look: int, side: int, path: str) -> None:
        """Add an image with the number of its look; another one with the same identity is passed over."""
        if self._identities.add(identity):
            name = path.encode(errors="surrogateescape")
            self._entries.write(np.array((identity, look, side, self._end, len(name)), ENTRY).tobytes())
            self._paths.write(name)
            self._end += len(name)

    def clusters(self) -> list[list[Member]]:
        """The groups of images that are copies of each other, of at least two images each."""
        self._identities = KeySet()
        self._looks.forget()
        looks = self._numbers()
        if len(looks) < 2:
            return []
        try:
            with tempfile.TemporaryFile() as file:
                groups = _Search(self._looks, looks, self.path, file).groups()
        finally:
            confirm.forget()
        return [[self._member(number) for number in group] for group in groups]

    def _numbers(self) -> NDArray[np.uint32]:
        """The numbers of the looks of all images."""
        count = self._entries.seek(0, 2) // ENTRY.itemsize
        numbers = np.empty(count, np.uint32)
        self._entries.seek(0)
        for start in range(0, count, BLOCK):
            numbers[start : start + BLOCK] = np.fromfile(self._entries, ENTRY, min(BLOCK, count - start))["look"]
        return numbers

    def path(self, number: int) -> str:
        """The file of an image."""
        entry = self._entry(number)
        self._paths.seek(int(entry["start"]))
        return self._paths.read(int(entry["bytes"])).decode(errors="surrogateescape")

    def _member(self, number: int) -> Member:
        entry = self._entry(number)
        return Member(int(entry["identity"]), int(entry["side"]), self.path(number))

    def _entry(self, number: int) -> np.void:
        self._entries.seek(number * ENTRY.itemsize)
        return np.frombuffer(self._entries.read(ENTRY.itemsize), ENTRY)[0]  # type: ignore[no-any-return]


class _Search:
    """Joins the images of a collection, given the numbers of their looks, into groups of copies."""

    def __init__(
        self, looks: LookCache, numbers: NDArray[np.uint32], path: Callable[[int], str], hashes: IO[bytes]
    ) -> None:
        self._looks, self._numbers, self._path, self._hashes = looks, numbers, path, hashes
        self._parents = np.arange(len(numbers), dtype=np.int32)
        self._differed = np.zeros(len(numbers), np.uint8)
        self._compared = np.zeros(REMEMBERED, np.uint64)

    def groups(self) -> list[list[int]]:
        self._join_equal_files()
        for found in search.pairs(len(self._numbers), self._read_hashes):
            self._compare(found)
        roots = np.fromiter(map(self._root, range(len(self._parents))), np.int32, len(self._parents))
        return _groups(roots)

    def _join_equal_files(self) -> None:
        """Join the images whose files have the same bytes, and keep the hashes of all in the order of the images."""
        contents = np.empty(len(self._numbers), np.uint64)
        for start in range(0, len(contents), BLOCK):
            wanted = self._numbers[start : start + BLOCK]
            looks = self._looks.chosen(wanted)
            contents[start : start + BLOCK] = looks["content"]
            hashes = np.empty(len(looks), HASHES)
            hashes["whole"], hashes["trimmed"] = looks["hash"], looks["trimmed"]
            hashes.tofile(self._hashes)
        for group in _groups(contents):
            for other in group[1:]:
                self._join(group[0], other)

    def _read_hashes(self, start: int, end: int) -> tuple[Pixels, Pixels]:
        self._hashes.seek(start * HASHES.itemsize)
        rows = np.fromfile(self._hashes, HASHES, end - start)
        return np.ascontiguousarray(rows["whole"]), np.ascontiguousarray(rows["trimmed"])

    def _compare(self, found: NDArray[np.int64]) -> None:
        """Join those pairs that are copies, the most similar first."""
        found = self._not_compared(np.unique(found, axis=0))
        for start in range(0, len(found), PAIRS):
            pairs = found[start : start + PAIRS]
            first, second = (self._looks.thumbnails(self._numbers[pairs[:, k]].tolist()) for k in (0, 1))
            alignment = align(first, second)
            shapes = [self._looks.chosen(self._numbers[pairs[:, k]])["size"].astype(float) for k in (0, 1)]
            similar = np.flatnonzero(_is_similar(alignment) & _same_proportions(*shapes))
            for k in similar[np.argsort(alignment.difference[similar])].tolist():
                self._confirm(int(pairs[k, 0]), int(pairs[k, 1]), alignment, k)

    def _not_compared(self, found: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pairs that have not been compared yet, as far as it is remembered, and are not joined yet."""
        keys = (found[:, 0] * len(self._numbers) + found[:, 1] + 1).astype(np.uint64)
        slots = keys % np.uint64(REMEMBERED)
        new = self._compared[slots] != keys
        self._compared[slots] = keys
        rest: NDArray[np.int64] = found[new & (self._parents[found[:, 0]] != self._parents[found[:, 1]])]
        return rest

    def _confirm(self, first: int, second: int, alignment: Alignment, pair: int) -> None:
        if self._root(first) == self._root(second) or self._differed[[first, second]].min() >= MOST_DIFFERENT:
            return
        try:
            is_copy = confirm.is_copy(self._path(first), self._path(second), alignment, pair)
        except Exception:  # the file has changed; Pillow's decoders raise errors of many types
            return
        if is_copy:
            self._join(first, second)
        else:
            self._differed[[first, second]] = np.minimum(self._differed[[first, second]], MOST_DIFFERENT - 1) + 1

    def _root(self, number: int) -> int:
        parents = self._parents
        while (parent := int(parents[number])) != number:
            parents[number] = parents[parent]  # halves the way for the next time
            number = parent
        return number

    def _join(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        self._parents[max(one, other)] = min(one, other)


def _is_similar(alignment: Alignment) -> NDArray[np.bool_]:
    """Which pairs may be copies as far as thumbnails show it; images with little to see are none."""
    moved = np.max(
        [abs(alignment.left), abs(alignment.top), abs(alignment.width - 1), abs(alignment.height - 1)], axis=0
    )
    brightness = (alignment.gain >= GAIN[0]) & (alignment.gain <= GAIN[1]) & (abs(alignment.level) <= LEVEL)
    close: NDArray[np.bool_] = (alignment.difference <= DIFFERENCE) & (moved <= MOVED) & brightness
    return close & (alignment.detail >= LITTLE_DETAIL)


def _same_proportions(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.bool_]:
    ratios = first[:, 0] * second[:, 1] / (first[:, 1] * second[:, 0])
    same: NDArray[np.bool_] = np.maximum(ratios, 1 / ratios) <= PROPORTIONS
    return same


def _groups(labels: NDArray[Any]) -> list[list[int]]:
    """The positions of equal labels, in groups of at least two."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True]) + 1
    starts = np.r_[0, ends[:-1]]
    several = np.flatnonzero(ends - starts > 1)
    return [order[starts[k] : ends[k]].tolist() for k in several]
