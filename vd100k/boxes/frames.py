"""The frame of a model: its notation of boxes together with its rule for the sizes of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vd100k.boxes.box import Box, BoxError, Size, from_row
from vd100k.boxes.notations import NOTATIONS, Frame
from vd100k.config.run import Model
from vd100k.images.resizing import SizeRule

USUAL = "resized-pixels-json"  # of the boxes in JSON of a model whose notation is not known


def of(model: Model) -> Frame:
    """The frame of a model."""
    return named(model.box_notation, SizeRule.of(model))


def named(notation: str | None, rule: SizeRule) -> Frame:
    """The frame of a model with this ``box_notation`` that resizes images by this rule."""
    return Frame(NOTATIONS[notation or USUAL], rule.resized)


def of_row(row: Mapping[str, Any], frame: Frame, size: Size) -> list[Box]:
    """The boxes to draw on the image of a row, of ``size``: its ``boxes``, or those that its answer names."""
    answer = row.get("answer")
    try:
        return from_row(row["boxes"])
    except (KeyError, BoxError):  # a row of another task, or one that was rejected for its boxes
        return frame.find(answer, size) if isinstance(answer, str) else []
