"""Drawing the boxes of an answer on its image."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vd100k.boxes.box import Box
from vd100k.chat.grounding import draw

number = st.floats(0, 320)


@settings(deadline=None)  # the first Chinese label searches for a font
@given(st.text(max_size=20), number, number, number, number)
def test_any_box_can_be_drawn(label: str, x1: float, y1: float, x2: float, y2: float) -> None:
    image = Image.new("RGB", (320, 200))
    box = Box(label, (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))
    assert draw(image, [box]).size == image.size


def test_drawn_boxes_are_visible_on_a_copy_of_the_image() -> None:
    image = Image.new("RGB", (200, 200), "white")
    drawn = draw(image, [Box("dog", (50, 50, 150, 150)), Box("女生", (10, 10, 40, 40)), Box("", (0, 160, 200, 200))])
    assert drawn.getpixel((150, 100)) != (255, 255, 255)
    assert drawn.getpixel((100, 100)) == (255, 255, 255)
    assert drawn.getpixel((199, 180)) != (255, 255, 255), "an edge of the image"
    assert image.getpixel((150, 100)) == (255, 255, 255), "the image itself must not change"
