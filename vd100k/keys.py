"""Sets of very many keys in little memory."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator

import xxhash

LATEST = 1 << 16  # keys kept in a set of Python's until they are sorted in with the others


def key(id: str, question: str | None = None) -> int:
    """64 bits for an image, or for a question about it.

    Two of a million keys are the same with a probability of 3 in 100 million.
    """
    text = id if question is None else f"{id}\0{question}"
    return xxhash.xxh3_64_intdigest(text.encode(errors="surrogatepass"))


class Keys:
    """A set of 64-bit keys that takes 8 bytes for each, where Python's own takes about 80."""

    def __init__(self) -> None:
        self._sorted = array("Q")
        self._latest: set[int] = set()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._latest)

    def __contains__(self, key: int) -> bool:
        if key in self._latest:
            return True
        place = bisect.bisect_left(self._sorted, key)
        return place < len(self._sorted) and self._sorted[place] == key

    def __iter__(self) -> Iterator[int]:
        yield from self._sorted
        yield from self._latest

    def add(self, key: int) -> bool:
        """Whether it is a new one."""
        if key in self:
            return False
        self._latest.add(key)
        if len(self._latest) >= LATEST:
            import numpy  # only now: many runs never come here, and it takes a while to import

            self._sorted.extend(self._latest)
            self._latest.clear()
            numpy.frombuffer(self._sorted, dtype=numpy.uint64).sort()
        return True


class Places:
    """Where the row of each key lies, in 16 bytes for each."""

    def __init__(self) -> None:
        self._keys, self._places = array("Q"), array("Q")
        self._is_sorted = False

    def add(self, key: int, place: int) -> None:
        self._keys.append(key)
        self._places.append(place)

    def of(self, key: int) -> int | None:
        if not self._is_sorted:
            self._sort()
        at = bisect.bisect_left(self._keys, key)
        return self._places[at] if at < len(self._keys) and self._keys[at] == key else None

    def _sort(self) -> None:
        import numpy

        order = numpy.argsort(numpy.frombuffer(self._keys, dtype=numpy.uint64), kind="stable")
        for column in (self._keys, self._places):
            values = numpy.frombuffer(column, dtype=numpy.uint64)
            values[:] = values[order]
        self._is_sorted = True
