"""Finds bounding boxes in a model's answer.

Qwen-VL and Qwen2-VL write ``<ref>a dog</ref><box>(x1,y1),(x2,y2)</box>`` in thousandths of the image's sides
(https://github.com/QwenLM/Qwen-VL). Qwen2-VL uses special tokens for the tags, which servers leave out of the text.
Qwen2.5-VL writes ``[{"bbox_2d": [x1, y1, x2, y2], "label": "a dog"}]`` in pixels of the resized image that it saw.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vd100k.images.resizing import Size, SizeRule

CORNERS = r"\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)\s*,\s*\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)"
BOX = re.compile(rf"(?:<box>|<\|box_start\|>)?{CORNERS}(?:</box>|<\|box_end\|>)?")
LABEL = re.compile(r"(?:<ref>|<\|object_ref_start\|>)(.*?)(?:</ref>|<\|object_ref_end\|>)", re.DOTALL)
THOUSANDTHS = 1000
FAR = 1e6  # pixels or thousandths: outside any image


@dataclass(frozen=True)
class Box:
    """A labelled box: left, top, right and bottom in pixels of the image."""

    label: str
    corners: tuple[int, int, int, int]


def find(answer: str, size: Size, rule: SizeRule) -> list[Box]:
    """The boxes in an answer about an image of ``size``, which the model saw resized by its ``rule``."""
    try:
        found = list(_in_json(answer, size, rule)) if "bbox" in answer else list(_in_text(answer, size))
    except (ValueError, RecursionError):  # small models sometimes repeat a digit or a bracket endlessly
        return []
    return [box for box in found if box.corners[0] < box.corners[2] and box.corners[1] < box.corners[3]]


def _in_text(answer: str, size: Size) -> Iterator[Box]:
    labels = list(LABEL.finditer(answer))
    for match in BOX.finditer(answer):
        before = [label for label in labels if label.end() <= match.start()]
        label = before[-1][1].strip() if before else ""
        yield Box(label, _scaled([int(number) for number in match.groups()], size, (THOUSANDTHS, THOUSANDTHS)))


def _in_json(answer: str, size: Size, rule: SizeRule) -> Iterator[Box]:
    import json_repair

    inner = answer.partition("```json")[2] or answer
    for one in _objects(json_repair.loads(inner[min((inner.find(c) for c in "[{" if c in inner), default=0) :])):
        corners = one.get("bbox_2d", one.get("bbox"))
        if isinstance(corners, list) and len(corners) == 4 and all(map(_is_number, corners)):
            yield Box(str(one.get("label", "")), _scaled(corners, size, rule.resized(*size)))


def _objects(read: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON value, at any depth."""
    if isinstance(read, dict):
        yield read
    for inner in read.values() if isinstance(read, dict) else read if isinstance(read, list) else []:
        yield from _objects(inner)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and -FAR < value < FAR  # also excludes NaN


def _scaled(corners: list[int] | list[float], size: Size, seen: Size) -> tuple[int, int, int, int]:
    """Corners scaled from an image of size ``seen`` to one of ``size``, and clipped to it."""
    x1, y1, x2, y2 = (
        min(max(round(corner * size[k % 2] / seen[k % 2]), 0), size[k % 2] - 1) for k, corner in enumerate(corners)
    )
    return x1, y1, x2, y2
