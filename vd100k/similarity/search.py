"""Find pairs of similar hashes among very many, without comparing all pairs and with little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vd100k.similarity.look import Hashes

Bits = NDArray[np.uint8]
Numbers = NDArray[np.int64]
ReadHashes = Callable[[int, int], Hashes]  # those of the images from one number to another


class Kind(NamedTuple):
    """A way to compare hashes: which ones, how often they are sorted, and in how many bits similar ones differ."""

    entries: Callable[[Hashes], tuple[Bits, ...]]
    passes: int
    farthest: int


KINDS = (
    Kind(lambda hashes: (hashes.whole,), 8, 40),  # of 256 bits; changes other than a crop turn up to 30 of them
    Kind(lambda hashes: (hashes.framed,), 8, 40),
    Kind(lambda hashes: (hashes.low, hashes.trimmed), 24, 12),  # of 64 bits; a crop turns 5 of them, and rarely 12
)
NEIGHBOURS = 12  # of an entry in sorted order that it is compared with
NEAREST = 2  # images with the most similar hashes of each kind, which are worth a look at their pixels
FAR = 255  # bits, where there is no such image
BLOCK = 1 << 14  # images at a time
GATHERED = 1 << 16  # pairs whose hashes are read at a time
SEED = 1  # of the orders of bits


def pairs(count: int, read: ReadHashes) -> Iterator[Numbers]:
    """Pairs of images with similar hashes, of the shape (pairs, 2); a pair may come once for each kind.

    The hashes are sorted several times, each time with their bits in another order, and every hash is compared with
    its neighbours (Charikar, 2002): similar hashes often agree in the bits that come first. The low frequencies of
    whole and trimmed images are sorted together, for cropped ones. The keys of a pass take up to 16 bytes an image, and
    the nearest ones 10.
    """
    random = np.random.default_rng(SEED)
    nearest = _Nearest(count)
    for kind in KINDS:
        nearest.forget()
        _find(nearest, count, read, kind, random)
        yield from nearest.pairs()


def _find(nearest: _Nearest, count: int, read: ReadHashes, kind: Kind, random: np.random.Generator) -> None:
    """Find the nearest ones of a kind. The memory of the keys is given back before the pairs are looked at."""
    entries = [hashes.shape[1] for hashes in kind.entries(read(0, 1))]
    bits = 8 * entries[0]
    memory = np.empty(len(entries) * count, np.uint64)  # once, as it becomes fragmented if it is freed in each pass
    width = int(len(memory) - 1).bit_length()
    limit = kind.farthest * (64 - width) // bits  # of the bits that a key has room for
    for _ in range(kind.passes):
        _sort_keys(memory, width, count, read, kind, random.permutation(bits))
        for found in _gathered(_neighbours(memory, width, limit, count)):
            nearest.improve(*_similar(found, count, read, kind))


class _Nearest:
    """The images with the most similar hashes that have been found for each image, and in how many bits they differ."""

    def __init__(self, count: int) -> None:
        self._numbers = np.full((count, NEAREST), -1, np.int32)
        self._bits = np.full((count, NEAREST), FAR, np.uint8)

    def forget(self) -> None:
        """Begin again, with another kind of hashes."""
        self._numbers.fill(-1)
        self._bits.fill(FAR)

    def improve(self, found: Numbers, bits: Bits) -> None:
        """Keep the pairs (pairs, 2) that differ in fewer bits than those known."""
        ones, others, bits = np.r_[found[:, 0], found[:, 1]], np.r_[found[:, 1], found[:, 0]], np.r_[bits, bits]
        new = bits < self._bits[ones, -1]
        new &= (self._numbers[ones] != others[:, None]).all(1)
        order = np.lexsort((others[new], bits[new], ones[new]))
        ones, others, bits = ones[new][order], others[new][order], bits[new][order]
        repeated = np.r_[False, (ones[1:] == ones[:-1]) & (others[1:] == others[:-1])][: len(ones)]
        ones, others, bits = ones[~repeated], others[~repeated], bits[~repeated]
        ranks = np.arange(len(ones)) - np.searchsorted(ones, ones)
        for rank in range(NEAREST):
            chosen = ranks == rank
            self._insert(ones[chosen], others[chosen], bits[chosen])

    def _insert(self, ones: Numbers, others: Numbers, bits: Bits) -> None:
        """Add one image to the nearest ones of each of some images, and drop the farthest."""
        numbers = np.column_stack([self._numbers[ones], others.astype(np.int32)])
        all_bits = np.column_stack([self._bits[ones], bits])
        order = np.argsort(all_bits, axis=1, kind="stable")[:, :NEAREST]
        self._numbers[ones] = np.take_along_axis(numbers, order, 1)
        self._bits[ones] = np.take_along_axis(all_bits, order, 1)

    def pairs(self) -> Iterator[Numbers]:
        """The pairs of each image and its nearest ones, each pair once."""
        for start in range(0, len(self._numbers), BLOCK):
            others = self._numbers[start : start + BLOCK].ravel().astype(np.int64)
            ones = np.repeat(np.arange(start, start + len(others) // NEAREST), NEAREST)
            ones, others = ones[others >= 0], others[others >= 0]
            mutual = (self._numbers[others] == ones[:, None]).any(1)
            once = (ones < others) | ~mutual
            yield np.column_stack([ones[once], others[once]])


def _sort_keys(keys: NDArray[np.uint64], width: int, count: int, read: ReadHashes, kind: Kind, order: Numbers) -> None:
    """Fill in keys and sort them: the number of an entry in the last ``width`` bits, and before it bits of its hash.

    Entry ``k * count + i`` is the hash k of image i.
    """
    for start in range(0, count, BLOCK):
        for k, hashes in enumerate(kind.entries(read(start, min(start + BLOCK, count)))):
            bits = np.unpackbits(hashes, axis=1)[:, order[:64]]
            first = k * count + start
            numbers = np.arange(first, first + len(bits), dtype=np.uint64)
            packed = np.ascontiguousarray(np.packbits(bits, axis=1)).view(">u8")[:, 0].astype(np.uint64)
            keys[first : first + len(bits)] = (packed >> np.uint64(width) << np.uint64(width)) | numbers
    keys.sort()


def _neighbours(keys: NDArray[np.uint64], width: int, limit: int, count: int) -> Iterator[Numbers]:
    """Entries with similar keys that are close in sorted order, in pairs, except for two entries of one image."""
    mask = np.uint64((1 << width) - 1)
    for start in range(0, len(keys), BLOCK):
        block = keys[start : start + BLOCK + NEIGHBOURS]
        numbers = (block & mask).astype(np.int64)
        for step in range(1, min(NEIGHBOURS, len(block) - 1) + 1):
            differ = np.bitwise_count((block[:-step] ^ block[step:])[:BLOCK] >> np.uint64(width))
            close = np.flatnonzero(differ <= limit)
            one, other = numbers[close], numbers[close + step]
            # Two trimmed hashes are as similar as those of the whole images.
            useful = (one % count != other % count) & (np.minimum(one, other) < count)
            yield np.column_stack([one[useful], other[useful]])


def _gathered(parts: Iterator[Numbers]) -> Iterator[Numbers]:
    """The same pairs in fewer, longer arrays."""
    waiting: list[Numbers] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= GATHERED:
            yield np.concatenate(waiting)
            waiting = []
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)


def _similar(found: Numbers, count: int, read: ReadHashes, kind: Kind) -> tuple[Numbers, Bits]:
    """The pairs whose hashes differ in few bits, as numbers of images, and in how many."""
    wanted = np.unique(found)
    hashes = _chosen(wanted, count, read, kind)
    one, other = (hashes[np.searchsorted(wanted, found[:, k])] for k in (0, 1))
    bits = np.bitwise_count(one ^ other).sum(1, dtype=np.int64)
    close = bits <= kind.farthest
    return found[close] % count, bits[close].astype(np.uint8)


def _chosen(wanted: Numbers, count: int, read: ReadHashes, kind: Kind) -> Bits:
    """The hashes of some entries, in the order of their sorted numbers: all are read, but few are kept."""
    parts: dict[int, Bits] = {}
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        for k, hashes in enumerate(kind.entries(read(start, end))):
            first, last = np.searchsorted(wanted, [k * count + start, k * count + end])
            parts[k * count + start] = hashes[wanted[first:last] - k * count - start]
    return np.concatenate([parts[start] for start in sorted(parts)])
