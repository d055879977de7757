"""Boxes that a model names in its answer, and drawing them on the picture.

Qwen-VL and Qwen2-VL say ``<ref>a dog</ref><box>(x1,y1),(x2,y2)</box>`` in thousandths of the picture's sides
(https://github.com/QwenLM/Qwen-VL), the latter with special tokens that servers leave out of the text. Qwen2.5-VL says
``[{"bbox_2d": [x1, y1, x2, y2], "label": "a dog"}]`` in pixels of the picture as it saw it, reduced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import json_repair
from PIL import Image, ImageDraw, ImageFont

from vd100k.pixels import reduced

CORNERS = r"\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)\s*,\s*\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)"
BOX = re.compile(rf"(?:<box>|<\|box_start\|>)?{CORNERS}(?:</box>|<\|box_end\|>)?")
LABEL = re.compile(r"(?:<ref>|<\|object_ref_start\|>)(.*?)(?:</ref>|<\|object_ref_end\|>)", re.DOTALL)
THOUSANDTHS = 1000
COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080")

Size = tuple[int, int]


@dataclass(frozen=True)
class Box:
    """Corners in pixels of the picture, top left first."""

    label: str
    corners: tuple[int, int, int, int]


def find(answer: str, size: Size, max_pixels: int) -> list[Box]:
    """The boxes in an answer about a picture of ``size``, which the model saw under ``max_pixels``."""
    found = list(_in_json(answer, size, max_pixels)) if "bbox" in answer else list(_in_text(answer, size))
    return [box for box in found if box.corners[0] < box.corners[2] and box.corners[1] < box.corners[3]]


def draw(picture: Image.Image, boxes: list[Box]) -> Image.Image:
    """A copy with the boxes on it, each label in a colour of its own."""
    drawn = picture.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    width = max(2, min(drawn.size) // 150)
    font = ImageFont.load_default(max(10, min(drawn.size) // 30))
    labels = list(dict.fromkeys(box.label for box in boxes))
    for box in boxes:
        colour = COLOURS[labels.index(box.label) % len(COLOURS)]
        pen.rectangle(box.corners, outline=colour, width=width)
        if box.label:
            left, top = box.corners[:2]
            around = pen.textbbox((left, top), box.label, font=font)
            pen.rectangle(around, fill=colour)
            pen.text((left, top), box.label, fill="white", font=font)
    return drawn


def _in_text(answer: str, size: Size) -> Iterator[Box]:
    labels = list(LABEL.finditer(answer))
    for match in BOX.finditer(answer):
        before = [label for label in labels if label.end() <= match.start()]
        label = before[-1][1].strip() if before else ""
        yield Box(label, _scaled([int(number) for number in match.groups()], size, (THOUSANDTHS, THOUSANDTHS)))


def _in_json(answer: str, size: Size, max_pixels: int) -> Iterator[Box]:
    inner = answer.partition("```json")[2] or answer
    read: Any = json_repair.loads(inner[min((inner.find(c) for c in "[{" if c in inner), default=0) :])
    for one in read if isinstance(read, list) else [read]:
        corners = one.get("bbox_2d", one.get("bbox")) if isinstance(one, dict) else None
        if isinstance(corners, list) and len(corners) == 4 and all(isinstance(c, int | float) for c in corners):
            yield Box(str(one.get("label", "")), _scaled(corners, size, reduced(*size, max_pixels)))


def _scaled(corners: list[int] | list[float], size: Size, seen: Size) -> tuple[int, int, int, int]:
    """From the sides that the model speaks of to those of the picture, and within it."""
    x1, y1, x2, y2 = (
        min(max(round(corner * size[k % 2] / seen[k % 2]), 0), size[k % 2] - 1) for k, corner in enumerate(corners)
    )
    return x1, y1, x2, y2
