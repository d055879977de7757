"""Draws documents with known content: small pallet labels with one printed character per cell."""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

SIZE = 112  # pixels per side, as in scenes
SCALE = 2  # drawn larger, then reduced
CELL = 28  # pixels; the area of one Qwen2-VL image token, so that no character is split between tokens
DESCRIPTIONS = "ABCEFGHKLM"  # one letter per product, because four characters fit on a line


@dataclass(frozen=True)
class Product:
    """A product on a label: a letter and a number of cases."""

    description: str
    cases: str


@dataclass(frozen=True)
class Manifest:
    """The content of a label; ``asdict`` gives the ground truth as a dictionary."""

    dock: str
    pallet_number: str
    products: list[Product]

    @property
    def lines(self) -> list[str]:
        """The printed lines: dock, pallet, and one line per product."""
        return [self.dock, f"P{self.pallet_number}", *(f"{p.description} {p.cases}" for p in self.products)]


def draw(rng: random.Random) -> tuple[Image.Image, Manifest]:
    """A random manifest and its picture (RGB, ``SIZE`` x ``SIZE``), both determined by ``rng`` alone."""
    goods = [Product(letter, str(rng.randint(10, 99))) for letter in rng.sample(DESCRIPTIONS, rng.randint(1, 2))]
    manifest = Manifest(f"D{rng.randrange(100):02d}", f"{rng.randrange(100):02d}", goods)
    paper, ink = rng.randint(205, 250), rng.randint(0, 70)
    image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), (paper, paper, paper - rng.randint(0, 25)))
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(CELL * SCALE * rng.uniform(0.78, 0.9))
    cell = CELL * SCALE
    for row, line in enumerate(manifest.lines):
        for column, character in enumerate(line):
            x = (column + 0.5) * cell + rng.uniform(-2, 2) * SCALE
            y = (row + 0.5) * cell + rng.uniform(-1.5, 1.5) * SCALE
            pen.text((x, y), character, fill=(ink, ink, ink), font=font, anchor="mm")
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS), manifest
