"""Slices of the images: parts by the hash of the id, so that any process finds the images of a slice by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vd100k.io.key_set import row_key
from vd100k.ledger.partial import slice_path

SLICES = 32  # each is a walk over all names: 2.6 s of CPU for a million (docs/clusters.md)
MOST = 2048  # with more, the walks take more than 5 ms for each image, as long as a driver's requests


@dataclass(frozen=True)
class Slice:
    """Part ``k`` of ``n``, counted from 1: the images whose key leaves ``k - 1`` when it is divided by ``n``."""

    k: int
    n: int

    def __contains__(self, id: object) -> bool:
        return row_key(str(id)) % self.n == self.k - 1

    def __str__(self) -> str:
        return f"slice {self.k} of {self.n}"

    def halves(self) -> tuple[Slice, Slice]:
        """Two slices with the same images together."""
        return Slice(self.k, 2 * self.n), Slice(self.k + self.n, 2 * self.n)

    def path(self, rows: Path) -> Path:
        """Where its rows are until they are joined with those of the run."""
        return slice_path(rows, self.k, self.n)


class Slices:
    """The slices of a run that no driver has.

    A driver gets at most its share of what is left, so the last slices are small and all drivers end together. No
    slice is made smaller than ``smallest`` images, if the number of images is known, nor than one of ``MOST`` parts.
    """

    def __init__(self, drivers: int, smallest: int) -> None:
        self._drivers, self._smallest = drivers, smallest
        self._begun: list[Slice] = []
        self._new = [Slice(1, 1)]

    def __len__(self) -> int:
        return len(self._begun) + len(self._new)

    def take(self, images: int | None) -> Slice | None:
        """The next slice of a run with about so many ``images``; None if no slice is left.

        Slices that a lost driver had come first, and are never split: their rows are in files of their own.
        """
        if self._begun or not self._new:
            return self._begun.pop(0) if self._begun else None
        left = sum(1 / one.n for one in self._new)
        one = self._new.pop(0)
        while (one.n < SLICES or 1 / one.n > left / self._drivers) and self._can_split(one, images):
            one, other = one.halves()
            self._new.insert(0, other)
        self._new.sort(key=lambda other: other.n)
        return one

    def give_back(self, slice: Slice) -> None:
        """The driver that had this slice is lost."""
        self._begun.append(slice)

    def _can_split(self, slice: Slice, images: int | None) -> bool:
        return slice.n < MOST and (images is None or images >= 2 * slice.n * self._smallest)
