"""Pictures with known content for the tests, and what people do to copies of pictures."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

Change = Callable[[Image.Image], Image.Image]


def photo(seed: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """A picture with the colours and details of a photograph: random at all scales, with a few things in it."""
    rng = random.Random(seed)
    image = Image.new("RGB", size, "grey")
    for cells in (3, 6, 12, 24):
        small = Image.frombytes("RGB", (cells, cells), rng.randbytes(cells * cells * 3))
        image = Image.blend(image, small.resize(size, Image.Resampling.BICUBIC), 0.45)
    pen = ImageDraw.Draw(image)
    for _ in range(3):
        x, y, side = rng.randrange(size[0]), rng.randrange(size[1]), rng.randint(15, 50)
        pen.rectangle((x, y, x + side, y + side), fill=tuple(rng.randbytes(3)))
    return image


def page(numbers: list[int]) -> Image.Image:
    """A printed form that has a number on each line."""
    image = Image.new("RGB", (300, 400), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(18)
    for line, number in enumerate(numbers):
        pen.text((20, 20 + 30 * line), f"item {line + 1}  amount  {number:06d}", font=font, fill=(20, 20, 20))
    return image


def shapes(colours: list[str]) -> Image.Image:
    """Four circles in these colours."""
    image = Image.new("RGB", (112, 112), (235, 235, 235))
    pen = ImageDraw.Draw(image)
    for k, colour in enumerate(colours):
        x, y = 8 + 54 * (k % 2), 8 + 54 * (k // 2)
        pen.ellipse((x, y, x + 40, y + 40), fill=colour)
    return image


def compressed(image: Image.Image, quality: int = 50) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def cropped(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((round(0.03 * width), round(0.02 * height), round(0.98 * width), round(0.96 * height)))


def narrowed(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((round(0.07 * width), round(0.03 * height), round(0.95 * width), round(0.93 * height)))


CHANGES: dict[str, Change] = {
    "resized": lambda image: image.resize((round(image.width * 0.7), round(image.height * 0.7))),
    "compressed": compressed,
    "cropped": cropped,
    "narrowed": narrowed,
    "brightened": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "grey": lambda image: image.convert("L"),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
}
