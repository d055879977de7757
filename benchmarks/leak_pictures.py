"""The pictures of ``benchmarks.leaks``: rendered graphics, printed documents and photograph-like scenes.

Each function draws one picture from a random generator, and ``change`` makes a copy. The search for copies was tuned on
pictures of the kinds in ``KNOWN`` and ``VARIED``, and measured on those in ``UNSEEN`` (twice: one
limit was changed in between).
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from vd100k.tiny import manifests, scenes

Draw = Callable[[random.Random], Image.Image]
Colour = tuple[int, int, int]

FONTS = "DejaVuSerif", "DejaVuSans", "DejaVuSansMono", "DejaVuSerif-Bold", "cmr10", "STIXGeneral"
SYLLABLES = [
    "ba",
    "de",
    "fi",
    "go",
    "lu",
    "ma",
    "ne",
    "pi",
    "ro",
    "su",
    "ta",
    "ve",
    "wi",
    "xo",
    "ya",
    "zu",
    "ker",
    "lin",
    "mor",
    "tan",
    "ges",
    "ith",
    "ond",
    "ple",
]
NOTED = [
    "invoice",
    "order",
    "pallet",
    "dock",
    "total",
    "amount",
    "date",
    "number",
    "customer",
    "address",
    "city",
    "net",
]
FIELDS = "Name", "Street", "Town", "Date of birth", "Account", "Amount", "Reference", "Telephone", "Approved by"


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf" / f"{name}.ttf"), size)


def word(rng: random.Random) -> str:
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(1, 4)))


def colour(rng: random.Random, low: int = 0, high: int = 255) -> Colour:
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def letter(rng: random.Random) -> Image.Image:
    """A page of running text in one of six fonts."""
    name, size = rng.choice(FONTS), rng.randint(11, 19)
    image = Image.new("RGB", (rng.randint(420, 520), rng.randint(560, 720)), colour(rng, 232, 255))
    pen, ink = ImageDraw.Draw(image), (rng.randint(0, 60),) * 3
    left, y = rng.randint(25, 60), rng.randint(25, 60)
    pen.text((left, y), word(rng).title() + " " + word(rng), font=font(name, size + 8), fill=ink)
    y += 2 * size + 14
    for _ in range(rng.randint(2, 5)):
        for _ in range(rng.randint(2, 7)):
            line = " ".join(word(rng) for _ in range(rng.randint(4, 8)))
            pen.text((left, y), line[: int((image.width - 2 * left) / size * 1.9)], font=font(name, size), fill=ink)
            y += round(size * 1.4)
        y += size
    return image


def form(rng: random.Random) -> Image.Image:
    """A printed form: the same layout for all, nine fields in boxes, of which only the values differ."""
    image = Image.new("RGB", (460, 620), (250, 250, 246))
    pen, small, large = ImageDraw.Draw(image), font("DejaVuSans", 12), font("DejaVuSansMono", 17)
    pen.text((50, 40), "APPLICATION FOR REFUND", font=font("DejaVuSerif-Bold", 22), fill=(10, 20, 70))
    for k, field in enumerate(FIELDS):
        x, y = 50 + 190 * (k % 2), 110 + 92 * (k // 2)
        pen.text((x, y), field, font=small, fill=(10, 20, 70))
        pen.rectangle((x, y + 18, x + 170, y + 52), outline=(10, 20, 70), width=1)
        pen.text((x + 10, y + 24), f"{rng.randrange(10**8):08d}", font=large, fill=(25, 25, 25))
    return image


def receipt(rng: random.Random) -> Image.Image:
    """A narrow list of things and prices."""
    rows, size = rng.randint(6, 18), rng.randint(13, 17)
    image = Image.new("RGB", (300, 150 + rows * (size + 9)), colour(rng, 225, 250))
    pen, face = ImageDraw.Draw(image), font("DejaVuSansMono", size)
    pen.text((150, 30), word(rng).upper(), font=font("DejaVuSans", 24), fill=(40, 40, 40), anchor="mm")
    for k in range(rows):
        y = 70 + k * (size + 9)
        pen.text((20, y), word(rng)[:14], font=face, fill=(50, 50, 50))
        pen.text((280, y), f"{rng.random() * 100:.2f}", font=face, fill=(50, 50, 50), anchor="ra")
    pen.line((20, image.height - 60, 280, image.height - 60), fill=(50, 50, 50), width=2)
    pen.text((280, image.height - 50), f"{rng.random() * 900:.2f}", font=face, fill=(50, 50, 50), anchor="ra")
    return image


def chart(rng: random.Random) -> Image.Image:
    """Bars or lines with axes, numbers and a title."""
    image = Image.new("RGB", (360, 260), (255, 255, 255))
    pen, face = ImageDraw.Draw(image), font("DejaVuSans", 11)
    pen.text((180, 18), f"{word(rng)} {word(rng)}".title(), font=font("DejaVuSans", 15), fill=(0, 0, 0), anchor="mm")
    pen.line((45, 35, 45, 225, 345, 225), fill=(60, 60, 60), width=2)
    for k in range(5):
        pen.text((40, 225 - 45 * k), str(k * rng.choice([5, 10, 20, 50])), font=face, fill=(60, 60, 60), anchor="rm")
    count, bars = rng.randint(4, 9), rng.random() < 0.6
    width, fill = 290 / count, colour(rng, 20, 210)
    heights = [rng.uniform(15, 175) for _ in range(count)]
    for k, height in enumerate(heights):
        x = 55 + k * width
        if bars:
            pen.rectangle((x, 225 - height, x + width * 0.7, 223), fill=fill)
        pen.text((x + width * 0.35, 238), word(rng)[:4], font=face, fill=(60, 60, 60), anchor="mm")
    if not bars:
        pen.line([(55 + (k + 0.35) * width, 225 - height) for k, height in enumerate(heights)], fill=fill, width=3)
    return image


def icons(rng: random.Random) -> Image.Image:
    """Plain shapes of several colours anywhere on a coloured ground."""
    width, height = rng.randint(180, 320), rng.randint(180, 320)
    image = Image.new("RGB", (width, height), colour(rng, 40, 255))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(3, 7)):
        x, y, size = rng.uniform(0.15, 0.85) * width, rng.uniform(0.15, 0.85) * height, rng.uniform(15, 45)
        corners, turn = rng.choice([3, 4, 5, 6, 40]), rng.uniform(0, 6)
        angles = [turn + 2 * math.pi * k / corners for k in range(corners)]
        outline = [(x + size * math.cos(a), y + size * math.sin(a)) for a in angles]
        pen.polygon(outline, fill=colour(rng), outline=(20, 20, 20) if rng.random() < 0.3 else None)
    return image


def poster(rng: random.Random) -> Image.Image:
    """A gradient of two colours with bands, rings and a title."""
    width, height = 300, rng.randint(200, 400)
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    angle = rng.uniform(0, 6.3)
    along = np.hypot(x - rng.uniform(-1, 1), y) if rng.random() < 0.4 else x * math.cos(angle) + y * math.sin(angle)
    along = ((along - along.min()) / np.ptp(along))[..., None]
    image = _image(np.array(colour(rng)) * along + np.array(colour(rng)) * (1 - along))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, 5)):
        a, b, size = rng.randrange(width), rng.randrange(height), rng.randint(15, 80)
        pen.ellipse((a - size, b - size, a + size, b + size), outline=colour(rng), width=rng.randint(2, 12))
    title = font(rng.choice(FONTS), rng.randint(20, 38))
    pen.text((width / 2, rng.uniform(0.2, 0.8) * height), word(rng).title(), font=title, fill=colour(rng), anchor="mm")
    return image


def noise(rng: random.Random) -> Image.Image:
    """Light and colour at all scales with a random share of fine detail, and a few hard-edged things in it."""
    width, height = rng.choice([(320, 240), (240, 320), (300, 300)])
    source = np.random.default_rng(rng.randrange(2**32))
    light = _octaves(source, width, height, rng.uniform(0.45, 0.75))[..., None]
    tint = np.stack([_octaves(source, width, height, 0.4) for _ in range(3)], -1)
    image = _image(128 + 70 * light + rng.uniform(5, 40) * tint + np.array(colour(rng, -20, 20)))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(0, 3)):
        x, y, size = rng.randrange(width), rng.randrange(height), rng.randint(8, 40)
        pen.polygon([(x, y - size), (x + size, y + size), (x - size, y + size / 2)], fill=colour(rng))
    return image


def landscape(rng: random.Random) -> Image.Image:
    """A sky, a sun and several ridges that are darker the nearer they are, with grain."""
    width, height = 320, 220
    source = np.random.default_rng(rng.randrange(2**32))
    fall = np.linspace(0, 1, height)[:, None, None]
    pixels = np.array(colour(rng, 90, 220)) * (1 - fall) + np.array(colour(rng, 150, 255)) * fall
    pixels = np.broadcast_to(pixels, (height, width, 3)).copy()
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    near = np.exp(-((x - rng.randrange(width)) ** 2 + (y - rng.randrange(100)) ** 2) / rng.uniform(100, 900))
    pixels += 90 * near[..., None] + 12 * _octaves(source, width, height, 0.6)[..., None]
    ground = np.array(colour(rng, 20, 130))
    for k in range(rng.randint(2, 5)):
        ridge = height * (0.35 + 0.13 * k) + rng.uniform(8, 25) * _octaves(source, width, 1, 0.6)[0]
        shade = ground * (1 - 0.17 * k) + rng.uniform(3, 16) * _octaves(source, width, height, 0.8)[..., None]
        pixels = np.where((y > ridge)[..., None], shade, pixels)
    return _image(pixels + source.normal(0, 3, pixels.shape))


def blobs(rng: random.Random) -> Image.Image:
    """Shaded balls that cover each other before an unsharp background, lit from one side."""
    width, height = 280, 240
    source = np.random.default_rng(rng.randrange(2**32))
    pixels = np.array(colour(rng, 60, 200)) + 25 * _octaves(source, width, height, 0.35)[..., None]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    light = rng.uniform(0, 6.3)
    for _ in range(rng.randint(5, 14)):
        a, b = rng.uniform(12, 60), rng.uniform(12, 60)
        u, v = (x - rng.randrange(width)) / a, (y - rng.randrange(height)) / b
        shade = 0.75 + 0.35 * (u * math.cos(light) + v * math.sin(light))
        pixels = np.where((u * u + v * v < 1)[..., None], np.array(colour(rng, 30, 240)) * shade[..., None], pixels)
    return _image(pixels + source.normal(0, 4, pixels.shape)).filter(ImageFilter.GaussianBlur(0.6))


def _octaves(source: np.random.Generator, width: int, height: int, persistence: float) -> NDArray[np.float64]:
    """Noise of six octaves with a standard deviation of 1; each is ``persistence`` as strong as the one before."""
    total = np.zeros((height, width))
    for octave in range(1, 7):
        cells = source.normal(size=(2**octave if height > 1 else 1, 2**octave + 1)).astype(np.float32)
        grown = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
        total += persistence**octave * np.asarray(grown)
    return (total - total.mean()) / total.std()


def _image(pixels: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def screenshot(rng: random.Random) -> Image.Image:
    """Windows with title bars, lines of text and buttons before a plain ground."""
    image = Image.new("RGB", (400, 260), colour(rng, 20, 120))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, 4)):
        x, y, width, height = rng.randint(0, 200), rng.randint(10, 120), rng.randint(140, 240), rng.randint(90, 170)
        dark = rng.random() < 0.3
        pen.rectangle((x, y, x + width, y + height), fill=(45, 45, 50) if dark else (244, 244, 246))
        pen.rectangle((x, y, x + width, y + 18), fill=colour(rng, 40, 200))
        pen.text((x + 6, y + 2), word(rng).title(), font=font("DejaVuSans", 12), fill=(255, 255, 255))
        for k in range(rng.randint(2, height // 16 - 2)):
            text, ink = f"{word(rng)} {word(rng)}"[: width // 9], (220,) * 3 if dark else (40,) * 3
            pen.text((x + 10, y + 24 + 15 * k), text, font=font("DejaVuSans", 11), fill=ink)
        pen.rounded_rectangle((x + width - 50, y + height - 24, x + width - 8, y + height - 6), 4, fill=colour(rng))
    return image


def ticket(rng: random.Random) -> Image.Image:
    """A ticket with a bar code, a number, a seat and a coloured stripe."""
    image = Image.new("RGB", (420, 180), (253, 252, 247))
    pen, x = ImageDraw.Draw(image), 250.0
    pen.rectangle((0, 0, 16, 180), fill=colour(rng))
    pen.text((30, 16), f"{word(rng)} {word(rng)}".upper()[:16], font=font("DejaVuSerif-Bold", 20), fill=(20, 20, 20))
    for k, text in enumerate(
        [f"ROW {rng.randint(1, 40)}", f"SEAT {rng.randint(1, 90)}", f"GATE {rng.choice('ABCDEF')}"]
    ):
        pen.text((30, 60 + 26 * k), text, font=font("DejaVuSans", 17), fill=(60, 60, 60))
    while x < 390:
        width = rng.choice([1, 2, 3, 4])
        pen.rectangle((x, 30, x + width - 1, 130), fill=(0, 0, 0))
        x += width + rng.choice([1, 2, 3])
    pen.text((320, 148), f"{rng.randrange(10**9):09d}", font=font("DejaVuSansMono", 15), fill=(0, 0, 0), anchor="mm")
    return image


def facade(rng: random.Random) -> Image.Image:
    """A lit wall with rows of windows that reflect differently, seen at an angle, with grain."""
    width, height = 280, 280
    source = np.random.default_rng(rng.randrange(2**32))
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    columns, rows, tilt = rng.randint(3, 7), rng.randint(3, 7), rng.uniform(-0.25, 0.25)
    u, v = x * columns * (1 + tilt * y), (y + tilt * 0.4 * x) * rows + rng.random()
    inside = (u % 1 > 0.25) & (u % 1 < 0.75) & (v % 1 > 0.2) & (v % 1 < 0.7)
    shine = source.uniform(0.1, 1, (32, 32))[v.astype(int) % 32, u.astype(int) % 32][..., None]
    wall = (
        np.array(colour(rng, 70, 220)) * (0.75 + 0.35 * x[..., None])
        + 9 * _octaves(source, width, height, 0.8)[..., None]
    )
    return _image(
        np.where(inside[..., None], np.array(colour(rng, 60, 230)) * shine, wall) + source.normal(0, 3, wall.shape)
    )


def scene(rng: random.Random) -> Image.Image:
    return scenes.draw(rng)[0]


def label(rng: random.Random) -> Image.Image:
    return manifests.draw(rng)[0]


def note(rng: random.Random) -> Image.Image:
    """A printed form; all have the same layout, and their words and numbers differ."""
    image = Image.new("RGB", (500, 700), (rng.randint(235, 255),) * 3)
    pen, face = ImageDraw.Draw(image), ImageFont.load_default(18)
    pen.text((40, 30), f"Delivery note {rng.randrange(10**6):06d}", font=ImageFont.load_default(30), fill=(20, 20, 20))
    for k in range(rng.randint(12, 26)):
        y = 90 + k * 22
        pen.text((40, y), " ".join(rng.choice(NOTED) for _ in range(3)), font=face, fill=(30, 30, 30))
        pen.text((330, y), f"{rng.random() * 99999:08.2f}", font=face, fill=(30, 30, 30))
    return image


def texture(rng: random.Random) -> Image.Image:
    """Random colours at all scales, as in a photograph, with a few plain things."""
    pixels, size = np.zeros((240, 320, 3)), (320, 240)
    source = np.random.default_rng(rng.randrange(2**32))
    for octave in range(1, 7):
        cells = (source.random((2**octave * 3 // 4 + 1, 2**octave + 1, 3)) * 255).astype(np.uint8)
        grown = Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)
        pixels += np.asarray(grown, float) * 0.62**octave
    image = _image((pixels - pixels.min()) * (255 / np.ptp(pixels)))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(0, 4)):
        x, y, side = rng.randrange(320), rng.randrange(240), rng.randint(10, 60)
        pen.rectangle((x, y, x + side, y + side), fill=tuple(rng.randbytes(3)))
    return image


KNOWN: list[Draw] = [scene, label, note, texture]
UNSEEN: list[Draw] = [screenshot, ticket, facade]
PHOTOGRAPHS: list[Draw] = [noise, landscape, blobs, facade, texture]
VARIED: list[Draw] = [letter, icons, noise, form, chart, landscape, receipt, poster, blobs]

CHANGES = "resized", "compressed", "cropped", "brightened", "grey", "blurred"
TWO = "two changes"


def change(image: Image.Image, kind: str, rng: random.Random) -> Image.Image:
    """A copy of an image with one kind of change of a random strength, or with two."""
    width, height = image.size
    if kind == TWO:
        for one in rng.sample(CHANGES, 2):
            image = change(image, one, rng)
        return image
    if kind == "resized":
        scale = rng.uniform(0.35, 0.9)
        resampling = rng.choice([Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
        return image.resize((round(width * scale), round(height * scale)), resampling)
    if kind == "compressed":
        file = io.BytesIO()
        image.save(file, "JPEG", quality=rng.randint(25, 85))
        return Image.open(file).convert("RGB")
    if kind == "cropped":
        left, top, right, bottom = (rng.uniform(0.02, 0.08) for _ in range(4))
        box = round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height)
        return image.crop(box)
    if kind == "brightened":
        return ImageEnhance.Brightness(image).enhance(1 + rng.choice([-1, 1]) * rng.uniform(0.1, 0.3))
    if kind == "grey":
        return image.convert("L").convert("RGB")
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.5)))
