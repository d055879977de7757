"""How well found boxes agree with the right ones: the intersection over union (IoU) of matched boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vd100k.boxes.box import Box, Corners

HALF = 0.5  # the IoU above which a box counts as found, as in PASCAL VOC


class Agreement(NamedTuple):
    """Means over all pairs of matched boxes; a missing box and one that is too many are pairs with IoU 0.

    ``mean_iou`` is in 0..1, ``over_half`` the share of pairs with an IoU of at least 0.5.
    """

    mean_iou: float
    over_half: float


def iou(one: Corners, other: Corners) -> float:
    """The area that two boxes share, divided by the area that they cover together; 0 if they cover none."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    covered = _area(one) + _area(other) - shared
    return shared / covered if covered else 0.0


def agreement(found: Sequence[Box], right: Sequence[Box]) -> Agreement:
    """How well the boxes found in an image agree with the right ones; perfect if there are none of either.

    Boxes are matched within their label, ignoring case, so that the sum of the IoUs is the largest.
    """
    labels = {_key(box) for box in (*found, *right)}
    ious = [value for label in labels for value in _matched(_of(found, label), _of(right, label))]
    if not ious:
        return Agreement(1.0, 1.0)
    return Agreement(sum(ious) / len(ious), sum(value >= HALF for value in ious) / len(ious))


def _key(box: Box) -> str:
    return box.label.casefold()


def _of(boxes: Sequence[Box], label: str) -> list[Corners]:
    return [box.corners for box in boxes if _key(box) == label]


def _matched(found: list[Corners], right: list[Corners]) -> list[float]:
    """The IoU of each pair, and 0 for each box without a partner."""
    count = max(len(found), len(right))
    if count == 1 and found and right:
        return [iou(found[0], right[0])]
    if not found or not right:
        return [0.0] * count
    from scipy.optimize import linear_sum_assignment  # slow to import

    table = [[iou(one, other) for other in right] for one in found]
    pairs = zip(*linear_sum_assignment(table, maximize=True), strict=True)
    ious = [table[one][other] for one, other in pairs]
    return ious + [0.0] * (count - len(ious))


def _area(corners: Corners) -> float:
    return max(corners[2] - corners[0], 0) * max(corners[3] - corners[1], 0)
