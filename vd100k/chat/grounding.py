"""Draws the bounding boxes of a model's answer on the image."""

from __future__ import annotations

import functools
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vd100k.boxes.box import Box

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080")
# Fonts with Chinese characters on Linux, macOS and Windows.
CHINESE = (
    *("NotoSansCJK-Regular.ttc", "SourceHanSansSC-Regular.otf", "wqy-zenhei.ttc", "wqy-microhei.ttc"),
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "STHeiti Medium.ttc", "msyh.ttc", "simhei.ttf"),
)


def draw(image: Image.Image, boxes: list[Box]) -> Image.Image:
    """A copy of the image with the boxes drawn on it, one colour per label."""
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    width = max(2, min(drawn.size) // 150)
    labels = list(dict.fromkeys(box.label for box in boxes))
    font = _font("".join(labels), max(12, min(drawn.size) // 22))
    for box in boxes:
        colour = COLOURS[labels.index(box.label) % len(COLOURS)]
        pen.rectangle(box.corners, outline=colour, width=width)
        if box.label:
            left, top = box.corners[:2]
            around = pen.textbbox((left, top), box.label, font=font)
            pen.rectangle(around, fill=colour)
            pen.text((left, top), box.label, fill="white", font=font)
    return drawn


def _font(text: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's default font or, if the text is not ASCII, an installed font with Chinese characters."""
    path = None if text.isascii() else _chinese()
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


@functools.cache
def _chinese() -> str | None:
    """The path of an installed font with Chinese characters; None if there is none."""
    from matplotlib import font_manager  # slow to import

    paths = {Path(path).name: path for path in font_manager.findSystemFonts()}
    return next((paths[name] for name in CHINESE if name in paths), None)
