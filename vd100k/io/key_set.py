"""Sets and indexes of millions of row keys in little memory."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Iterator

import xxhash

FIRST_BITS = 12


def row_key(id: str, question: str | None = None) -> int:
    """64 bits that identify an image, or a question about it.

    The probability that any two of a million keys collide is 3 in 100 million.
    """
    text = id if question is None else f"{id}\0{question}"
    return xxhash.xxh3_64_intdigest(text.encode(errors="surrogatepass"))


class KeySet:
    """A set of 64-bit keys that takes about 8 bytes a key; Python's own set takes about 80.

    The keys lie in sorted arrays, one for each value of a key's first bits. Each array is so short
    that an insertion is quick.
    """

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(1 << FIRST_BITS)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        part = self._parts[key >> (64 - FIRST_BITS)]
        at = bisect.bisect_left(part, key)
        return at < len(part) and part[at] == key

    def __iter__(self) -> Iterator[int]:
        return itertools.chain.from_iterable(self._parts)

    def add(self, key: int) -> bool:
        """Add a key, and return whether it was new."""
        part = self._parts[key >> (64 - FIRST_BITS)]
        at = bisect.bisect_left(part, key)
        if at < len(part) and part[at] == key:
            return False
        part.insert(at, key)
        self._count += 1
        return True

    def without(self, keys: KeySet) -> KeySet:
        """The keys of this set that are not in the other one."""
        rest = KeySet()
        rest._parts = [array("Q", (key for key in part if key not in keys)) for part in self._parts]
        rest._count = sum(map(len, rest._parts))
        return rest


class OffsetIndex:
    """The offset in a file of the row of each key, in 16 bytes a key."""

    def __init__(self) -> None:
        self._keys, self._offsets = array("Q"), array("Q")
        self._is_sorted = False

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: int, offset: int) -> None:
        self._keys.append(key)
        self._offsets.append(offset)

    def find(self, key: int) -> int | None:
        """The offset of the key's row; None if there is no such row."""
        if not self._is_sorted:
            self.sort()
        at = bisect.bisect_left(self._keys, key)
        return self._offsets[at] if at < len(self._keys) and self._keys[at] == key else None

    def sort(self) -> None:
        """Sort the keys now rather than at the first ``find``: before threads share the index."""
        import numpy

        order = numpy.argsort(numpy.frombuffer(self._keys, dtype=numpy.uint64), kind="stable")
        for column in (self._keys, self._offsets):
            values = numpy.frombuffer(column, dtype=numpy.uint64)
            values[:] = values[order]
        self._is_sorted = True
