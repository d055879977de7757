"""Which side of the training files a row belongs to: train, val or test."""

from __future__ import annotations

import contextlib
from collections.abc import Collection as Names
from collections.abc import Sequence
from typing import NamedTuple

import xxhash

from vd100k import console
from vd100k.config.stages import Convert
from vd100k.conversion.filters import RejectedRow
from vd100k.conversion.images import TrainingImage
from vd100k.io.jsonl import Row
from vd100k.io.key_set import row_key
from vd100k.similarity.cache import LookCache
from vd100k.similarity.clusters import Collection, Member
from vd100k.sources.readers import SPLITS

# How an image came to its side: drawn by lot, or given by the source.
TRAIN, VAL, GIVEN_TRAIN, GIVEN_HELD_OUT = range(4)
MANY = 10_000  # images, from which on the search takes long enough to be announced


class Copies(NamedTuple):
    """What a search for copies among the images found.

    ``sides`` has the side of each image that does not stay where it was by itself, and ``leaked`` the held-out image
    that a training image of the source shows; both by the key of the image. ``groups`` are the images, by their file.
    """

    groups: list[list[Member]]
    sides: dict[int, str]
    leaked: dict[int, str]


class Splits:
    """Decides the side of each row, and collects the images, so that copies can be found among them."""

    def __init__(self, stage: Convert, sides: Names[str], looks: LookCache | None, known: Copies | None) -> None:
        self._stage, self._sides, self._known = stage, sides, known
        self._collection = Collection(looks) if looks is not None and known is None else None
        self._held_out = False
        self._last = "", ""  # an image and the side that was drawn for it
        self.lowest_draw: float | None = None  # a larger split_dataset_ratio would hold out a row

    def side(self, row: Row, identity: str, images: Sequence[TrainingImage]) -> str:
        """The side of a row: from the source if it has splits, otherwise from a seeded hash of the image or group.

        Raises:
            RejectedRow: the row is for training, and one of its images is a copy of one that the source holds out.
        """
        given = self._given(row)
        side = given or self.drawn(identity)
        self._held_out |= side != "train"
        for image in images if self._collection is not None else ():
            self._collect(image, given, side)
        known = self._known
        if known is None:
            return side
        for image in images:
            key = row_key(image.name)
            if side == "train" and key in known.leaked and self._stage.rules.leaked:
                which = f"{image.name} " if len(images) > 1 else ""
                raise RejectedRow("leaked", f"{which}shows the same as {known.leaked[key]}, which is held out")
            side = side if given else known.sides.get(key, side)
        return side

    def _collect(self, image: TrainingImage, given: str | None, side: str) -> None:
        if self._collection is not None and image.look is not None:
            train = GIVEN_TRAIN if given else TRAIN
            held_out = GIVEN_HELD_OUT if given else VAL
            self._collection.add(row_key(image.name), image.look, train if side == "train" else held_out, image.file)

    def copies(self) -> Copies | None:
        """The copies among the images that have been collected; None if none were looked for."""
        if self._collection is None or not self._held_out:
            return None
        with self._collection as collection:
            announced = console.waiting(f"looking for copies among {len(collection)} images")
            with announced if len(collection) >= MANY else contextlib.nullcontext():
                groups = collection.clusters()
        sides: dict[int, str] = {}
        leaked: dict[int, str] = {}
        for group in groups:
            _decide(group, sides, leaked)
        return Copies(groups, sides, leaked)

    def _given(self, row: Row) -> str | None:
        split = row.get("split")
        named = SPLITS.get(split) if split.__class__ is str else None
        return named if named in self._sides or named is None else next(iter(self._sides))

    def drawn(self, identity: str) -> str:
        held_out = self._stage.split_dataset_ratio
        if not held_out or "val" not in self._sides:
            return "train"
        if identity == self._last[0]:  # usually, the rows of an image follow each other
            return self._last[1]
        draw = xxhash.xxh3_64_intdigest(identity.encode(), self._stage.data_seed % 2**64) / 2**64
        if self.lowest_draw is None or draw < self.lowest_draw:
            self.lowest_draw = draw
        self._last = identity, "val" if draw < held_out else "train"
        return self._last[1]


def _decide(group: list[Member], sides: dict[int, str], leaked: dict[int, str]) -> None:
    """Put a group of copies on one side.

    What the source holds out decides, then what it trains on, then the lot of the image whose key is the lowest: an
    image that is added later has a lower one with a probability of one over the new number of images.
    """
    held_out = next((member for member in group if member.side == GIVEN_HELD_OUT), None)
    if held_out is not None:
        leaked |= {member.identity: held_out.path for member in group if member.side in (TRAIN, GIVEN_TRAIN)}
        return
    first = min(group, key=lambda member: member.identity)
    held_out_by_lot = first.side == VAL and all(member.side != GIVEN_TRAIN for member in group)
    side = "val" if held_out_by_lot else "train"
    sides |= {member.identity: side for member in group if (member.side == VAL) != held_out_by_lot}
