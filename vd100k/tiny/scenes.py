"""Draws pictures with known content: one to four equal shapes of one colour on a plain background."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIZE = 112  # pixels per side: 8 x 8 patches of 14, the smallest picture in which a Qwen2-VL model recognises much
SCALE = 4  # drawn larger, then reduced, for smooth edges
CELLS = 2  # shapes are placed in a 2 x 2 grid, so they never overlap

COLOURS = {
    "red": (214, 40, 40),
    "green": (38, 160, 70),
    "blue": (40, 80, 210),
    "yellow": (240, 205, 30),
    "purple": (140, 50, 170),
    "orange": (245, 130, 25),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
COUNTS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Scene:
    """The content of a picture; ``asdict`` gives the ground truth as a dictionary."""

    count: int
    colour: str
    shape: str


def draw(rng: random.Random) -> tuple[Image.Image, Scene]:
    """A random scene and its picture (RGB, ``SIZE`` x ``SIZE``), both determined by ``rng`` alone."""
    scene = Scene(rng.choice(COUNTS), rng.choice(list(COLOURS)), rng.choice(SHAPES))
    grey = rng.randint(215, 250)
    image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), (grey, grey, grey))
    pen = ImageDraw.Draw(image)
    cell = SIZE * SCALE / CELLS
    for place in rng.sample(range(CELLS * CELLS), scene.count):
        x = (place % CELLS + 0.5 + rng.uniform(-0.08, 0.08)) * cell
        y = (place // CELLS + 0.5 + rng.uniform(-0.08, 0.08)) * cell
        colour = tuple(min(255, max(0, c + rng.randint(-12, 12))) for c in COLOURS[scene.colour])
        _shape(pen, scene.shape, x, y, cell * rng.uniform(0.34, 0.42), rng.uniform(-0.3, 0.3), colour)
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS), scene


def _shape(
    pen: ImageDraw.ImageDraw,
    shape: str,
    x: float,
    y: float,
    radius: float,
    turn: float,
    colour: tuple[int, ...],
) -> None:
    """Draw one shape centred at (x, y), rotated by ``turn`` radians."""
    if shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        return
    # The corners of a polygon as (radius, angle); angles are clockwise from the top.
    corners = {
        "square": [(1.0, math.pi / 4 + k * math.pi / 2) for k in range(4)],
        "triangle": [(1.05, k * 2 * math.pi / 3) for k in range(3)],
        "star": [(1.1 if k % 2 == 0 else 0.45, k * math.pi / 5) for k in range(10)],
        "cross": [
            corner
            for k in range(4)
            for corner in (
                (1.05, k * math.pi / 2 - 0.3),
                (1.05, k * math.pi / 2 + 0.3),
                (0.45, k * math.pi / 2 + math.pi / 4),
            )
        ],
    }[shape]
    pen.polygon(
        [(x + radius * r * math.sin(a + turn), y - radius * r * math.cos(a + turn)) for r, a in corners],
        fill=colour,
    )
