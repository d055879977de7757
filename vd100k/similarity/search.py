"""Find pairs of similar hashes among very many, without comparing all pairs and with little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from vd100k.similarity.look import HASH_SIDE, LOOK, low_frequencies

Bits = NDArray[np.uint8]
Numbers = NDArray[np.int64]
# The hashes of the images from one number to another: whole (images, 32) and trimmed (images, 8).
ReadHashes = Callable[[int, int], tuple[Bits, Bits]]

PASSES = 16  # of each kind
NEIGHBOURS = 6  # of an image in sorted order that it is compared with
BLOCK = 1 << 16  # images, or pairs, worked on at a time
FARTHEST_KEY = 0.2, 0.25  # of the bits in the keys of whole hashes, and of those for cropped images
SEED = 1  # of the orders of bits
FARTHEST_WHOLE = 56  # of 256 bits; changes other than a crop turn up to 40 of them
FARTHEST_LOW = 14  # of 64 bits; a crop by up to 4 % on each side turns up to 12 of them, compared with the trimmed hash


def pairs(count: int, read: ReadHashes) -> Iterator[Numbers]:
    """Pairs of images with similar hashes, of the shape (pairs, 2).

    The hashes are sorted several times, each time with their bits in another order, and every hash is compared with
    its neighbours (Charikar, 2002): similar hashes often agree in the bits that come first. Half of the passes use
    whole hashes, the others the low frequencies of whole and trimmed images together, for cropped ones. A pair may come
    several times. A pass takes 16 bytes an image.
    """
    random = np.random.default_rng(SEED)
    for _ in range(PASSES):
        for entries, bits in ((1, HASH_SIDE**2), (2, LOOK["trimmed"].itemsize * 8)):
            order = random.permutation(bits)
            for found in _neighbours(_sorted_keys(count, read, entries, order), count, entries):
                yield _similar(found, count, read, entries)


def _sorted_keys(count: int, read: ReadHashes, entries: int, order: Numbers) -> tuple[NDArray[np.uint64], int]:
    """Sorted keys, and the number of their last bits that hold the number of the entry; the others are from its hash.

    Entry k < ``count`` is the hash of image k, and entry ``count + k`` that of the trimmed image k.
    """
    width = int(entries * count - 1).bit_length()
    keys = np.empty(entries * count, np.uint64)
    for start in range(0, count, BLOCK):
        whole, trimmed = read(start, min(start + BLOCK, count))
        for k, hashes in enumerate((whole,) if entries == 1 else (low_frequencies(whole), trimmed)):
            bits = np.unpackbits(hashes, axis=1)[:, order[:64]]
            first = k * count + start
            numbers = np.arange(first, first + len(bits), dtype=np.uint64)
            packed = np.ascontiguousarray(np.packbits(bits, axis=1)).view(">u8")[:, 0].astype(np.uint64)
            keys[first : first + len(bits)] = (packed >> np.uint64(width) << np.uint64(width)) | numbers
    keys.sort()
    return keys, width


def _neighbours(sorted_keys: tuple[NDArray[np.uint64], int], count: int, entries: int) -> Iterator[Numbers]:
    """Entries with similar keys that are close in sorted order, in pairs, except for two entries of one image."""
    keys, width = sorted_keys
    farthest = FARTHEST_KEY[entries - 1]
    mask = np.uint64((1 << width) - 1)
    for start in range(0, len(keys), BLOCK):
        block = keys[start : start + BLOCK + NEIGHBOURS]
        numbers = (block & mask).astype(np.int64)
        parts = [np.empty((0, 2), np.int64)]
        for step in range(1, min(NEIGHBOURS, len(block) - 1) + 1):
            differ = np.bitwise_count((block[:-step] ^ block[step:])[:BLOCK] >> np.uint64(width))
            close = np.flatnonzero(differ <= farthest * (64 - width))
            parts.append(np.column_stack([numbers[close], numbers[close + step]]))
        found = np.concatenate(parts)
        apart = found[:, 0] % count != found[:, 1] % count
        if entries == 2:  # two trimmed hashes are as similar as those of the whole images
            apart &= (found < count).any(1)
        if apart.any():
            yield found[apart]


def _similar(found: Numbers, count: int, read: ReadHashes, entries: int) -> Numbers:
    """The pairs whose hashes differ in few bits, as numbers of images."""
    wanted = np.unique(found % count)
    hashes = _gathered(wanted, count, read)
    at = np.searchsorted(wanted, found % count)
    if entries == 1:
        ones, others = (hashes[0][at[:, k]] for k in (0, 1))
        close = _distance(ones, others) <= FARTHEST_WHOLE
    else:
        low = low_frequencies(hashes[0])
        ones, others = (np.where((found[:, k] < count)[:, None], low[at[:, k]], hashes[1][at[:, k]]) for k in (0, 1))
        close = _distance(ones, others) <= FARTHEST_LOW
    return np.sort(found[close] % count, axis=1)


def _gathered(wanted: Numbers, count: int, read: ReadHashes) -> tuple[Bits, Bits]:
    """The hashes of some images, in the order of their sorted numbers: all are read, but few are kept."""
    parts = []
    for start in range(0, count, BLOCK):
        first, last = np.searchsorted(wanted, [start, start + BLOCK])
        if first < last:
            block = read(start, min(start + BLOCK, count))
            parts.append([hashes[wanted[first:last] - start] for hashes in block])
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _distance(one: Bits, other: Bits) -> NDArray[np.int64]:
    distances: Numbers = np.bitwise_count(one ^ other).sum(1, dtype=np.int64)
    return distances
