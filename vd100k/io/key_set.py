"""Sets of very many keys in little memory."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Iterator

import xxhash

FIRST_BITS = 12


def key(id: str, question: str | None = None) -> int:
    """64 bits for an image, or for a question about it.

    Two of a million keys are the same with a probability of 3 in 100 million.
    """
    text = id if question is None else f"{id}\0{question}"
    return xxhash.xxh3_64_intdigest(text.encode(errors="surrogatepass"))


class Keys:
    """A set of 64-bit keys in about 8 bytes each, where Python's own takes about 80.

    They lie in sorted arrays, one for each of the values that a key's first bits can have, each so
    short that putting one more in its place is quick.
    """

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(1 << FIRST_BITS)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        part = self._parts[key >> (64 - FIRST_BITS)]
        place = bisect.bisect_left(part, key)
        return place < len(part) and part[place] == key

    def __iter__(self) -> Iterator[int]:
        return itertools.chain.from_iterable(self._parts)

    def add(self, key: int) -> bool:
        """Whether it is a new one."""
        part = self._parts[key >> (64 - FIRST_BITS)]
        place = bisect.bisect_left(part, key)
        if place < len(part) and part[place] == key:
            return False
        part.insert(place, key)
        self._count += 1
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
