"""Which images of a collection are copies of each other."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vd100k.errors import DataError
from vd100k.io.key_set import KeySet
from vd100k.parallel.cores import core_count
from vd100k.parallel.ordered import in_order
from vd100k.similarity import pairs, search
from vd100k.similarity.cache import LookCache
from vd100k.similarity.look import LOOK, Hashes

ENTRY = np.dtype([("identity", "<u8"), ("look", "<u4"), ("side", "u1"), ("start", "<u8"), ("bytes", "<u4")])
HASHES = np.dtype([(name, LOOK[name]) for name in ("hash", "framed", "trimmed")])
BLOCK = 1 << 14  # images at a time
PAIRS = 256  # pairs compared at a time
ALONE = 2  # times so many, which one process compares faster than several, which have to be started


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
        """The groups of images that are copies of each other, of at least two images each.

        Raises:
            DataError: a process that shares the work was killed.
        """
        self._identities = KeySet()
        self._looks.forget()
        looks = self._numbers()
        if len(looks) < 2:
            return []
        with tempfile.TemporaryFile() as file:
            groups = _Search(self._looks, looks, self.path, file).groups()
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

    def groups(self) -> list[list[int]]:
        self._join_equal_files()
        count = len(self._parents) - len(self._repeated)
        for start in range(0, count, BLOCK):
            self._keep_hashes(self._different(np.arange(start, min(start + BLOCK, count))))
        self._compare(search.pairs(count, self._read_hashes))
        roots = np.fromiter(map(self._root, range(len(self._parents))), np.int32, len(self._parents))
        return _groups(roots)

    def _join_equal_files(self) -> None:
        """Join the images whose files have the same bytes; only the first of them is compared with others."""
        contents = np.empty(len(self._numbers), np.uint64)
        for start in range(0, len(contents), BLOCK):
            contents[start : start + BLOCK] = self._looks.chosen(self._numbers[start : start + BLOCK])["content"]
        repeated = []
        for group in _groups(contents):
            self._parents[group] = group[0]
            repeated += group[1:]
        self._repeated = np.array(sorted(repeated), np.int64)

    def _different(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The images with these numbers among those that repeat no earlier file."""
        passed_over = self._repeated - np.arange(len(self._repeated))
        return numbers + np.searchsorted(passed_over, numbers, side="right")

    def _keep_hashes(self, images: NDArray[np.int64]) -> None:
        """Write the hashes of the next images to the file."""
        looks = self._looks.chosen(self._numbers[images])
        hashes = np.empty(len(looks), HASHES)
        for name in HASHES.names or ():
            hashes[name] = looks[name]
        hashes.tofile(self._hashes)

    def _read_hashes(self, start: int, end: int) -> Hashes:
        self._hashes.seek(start * HASHES.itemsize)
        rows = np.fromfile(self._hashes, HASHES, end - start)
        return Hashes(*(np.ascontiguousarray(rows[name]) for name in HASHES.names or ()))

    def _compare(self, found: Iterator[NDArray[np.int64]]) -> None:
        """Join those of the pairs found that are copies. All cores share the work, which is most of the search."""
        compared = in_order(pairs.copies, pairs.comparer, self._batches(found), core_count(), ALONE)
        try:
            with contextlib.closing(compared) as batches:
                for first, second in itertools.chain.from_iterable(batches):
                    self._join(first, second)
        except BrokenProcessPool as error:
            raise DataError(
                "A process that compares images was killed, perhaps because the memory is full. Run the command again "
                "when more memory is free."
            ) from error

    def _batches(self, found: Iterator[NDArray[np.int64]]) -> Iterator[pairs.Pairs]:
        """The pairs found, a few at a time and with all that is needed to compare them, except those joined already."""
        for block in map(self._different, found):
            for start in range(0, len(block), PAIRS):
                numbers = block[start : start + PAIRS]
                numbers = numbers[self._parents[numbers[:, 0]] != self._parents[numbers[:, 1]]]
                if len(numbers):
                    yield self._described(numbers)

    def _described(self, numbers: NDArray[np.int64]) -> pairs.Pairs:
        looks = [self._numbers[numbers[:, k]] for k in (0, 1)]
        thumbnails = [self._looks.thumbnails(some.tolist()) for some in looks]
        sizes = [self._looks.chosen(some)["size"].astype(float) for some in looks]
        paths = [(self._path(first), self._path(second)) for first, second in numbers.tolist()]
        return pairs.Pairs(numbers, thumbnails, sizes, paths)

    def _root(self, number: int) -> int:
        parents = self._parents
        while (parent := int(parents[number])) != number:
            parents[number] = parents[parent]  # halves the way for the next time
            number = parent
        return number

    def _join(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        self._parents[max(one, other)] = min(one, other)


def _groups(labels: NDArray[Any]) -> list[list[int]]:
    """The positions of equal labels, in groups of at least two."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    same = np.r_[False, ordered[1:] == ordered[:-1], False]
    edges = np.flatnonzero(same[1:] != same[:-1])
    return [order[start : end + 1].tolist() for start, end in zip(edges[::2], edges[1::2], strict=True)]
