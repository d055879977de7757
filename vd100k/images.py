"""An image on disk, brought to what a request carries or a training reads."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pybase64
from PIL import Image, ImageOps

from vd100k import fingerprint, headers

SENT_AS_IS = {"JPEG": "image/jpeg", "PNG": "image/png"}
ENDS = {"JPEG": headers.JPEG_END, "PNG": headers.PNG_END}
PLAIN_MODES = {"L", "RGB"}
FACTOR = 28  # Qwen-VL sees in 28 x 28 pixel tokens
ORIENTATION = 0x0112  # EXIF

warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on odd and large files that it reads all the same


class ImageError(ValueError):
    """This one image cannot be used; the message says why."""


def unchanged(path: str, row: dict[str, Any]) -> bool:
    """Whether the image at ``path`` is the one of ``row``: the same untouched file, or the same bytes."""
    if "image_sha256" not in row:
        return True
    try:
        if row["image"] == path and row["image_mtime_ns"] == os.stat(path).st_mtime_ns:
            return True
        return fingerprint.of_file(Path(path)) == str(row["image_sha256"])
    except OSError:
        return True  # gone, or out of reach: not another one


@dataclass(slots=True)
class Encoded:
    """An image as a request carries it, a ``data:`` URL, and what its row keeps to know it again."""

    url: bytes
    facts: dict[str, Any]


def encode(path: str, max_pixels: int) -> Encoded:
    """The image in base64, at most ``max_pixels`` (width x height), read once.

    A plain PNG or JPEG under the cap is sent byte by byte, not decoded. Anything else is turned
    upright, brought to RGB, and reduced to what Qwen-VL would make of it: a photo stays a JPEG, the
    rest becomes PNG.

    Raises:
        ImageError: missing, not an image, or broken.
    """
    with _known(path):
        file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            facts = os.fstat(file)
            content = _read(file, facts.st_size)
        finally:
            os.close(file)
        known = {"image_mtime_ns": facts.st_mtime_ns, "image_sha256": hashlib.sha256(content).hexdigest()}
        found = headers.plain(content)
        if found and found[1] * found[2] <= max_pixels:
            return Encoded(_data_url(found[0], content), known)
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height <= max_pixels and _whole(image, content) and is_plain(image):
                return Encoded(_data_url(SENT_AS_IS[str(image.format)], content), known)
            return Encoded(_data_url(*_recoded(image, max_pixels)), known)


def _read(file: int, size: int) -> bytes:
    """The whole file; one call does it nearly always."""
    content = os.read(file, size)
    while len(content) < size and (more := os.read(file, size - len(content))):
        content += more
    return content


def _whole(image: Image.Image, content: bytes) -> bool:
    """Whether a PNG or JPEG has its end: one cut off would be found out by decoding alone."""
    return content.endswith(ENDS.get(str(image.format), ()))


def _recoded(image: Image.Image, max_pixels: int) -> tuple[str, bytes]:
    lossy = image.format == "JPEG"
    size = reduced(image.width, image.height, max_pixels) if image.width * image.height > max_pixels else image.size
    if lossy:
        image.draft("RGB", (2 * max(size), 2 * max(size)))  # decoded no larger than a good reduction needs
    turned = rgb(image)
    if turned.size != image.size:  # lying on its side
        size = size[::-1]
    encoded = io.BytesIO()
    if turned.size != size:
        turned = turned.resize(size, Image.Resampling.BICUBIC)
    turned.save(encoded, "JPEG", quality=95) if lossy else turned.save(encoded, "PNG", compress_level=1)
    return ("image/jpeg" if lossy else "image/png"), encoded.getvalue()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The decoded image; what fails with it open is its fault.

    Raises:
        ImageError: missing, not an image, broken, or of more pixels than Pillow dares to unpack.
    """
    with _known(path), Image.open(path) as image:
        image.load()  # verify() would let a truncated file pass
        yield image


@contextlib.contextmanager
def _known(path: Path | str) -> Iterator[None]:
    """Whatever fails within is the image's fault: Pillow raises whatever its decoders stumble over."""
    try:
        yield
    except Exception as error:
        reason = "not an image" if "cannot identify" in str(error) else getattr(error, "strerror", None) or error
        raise ImageError(f"{path}: {reason}") from error


def is_plain(image: Image.Image) -> bool:
    """Whether every program sees the same in it: 8-bit grey or RGB, one frame, not turned by EXIF."""
    return (
        image.mode in PLAIN_MODES
        and getattr(image, "n_frames", 1) == 1
        and image.getexif().get(ORIENTATION, 1) == 1
        and "transparency" not in image.info
    )


def rgb(image: Image.Image) -> Image.Image:
    """Upright RGB of the first frame; 16-bit grey scaled to 8, what is transparent on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # Pillow would cut off at 255 instead
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def plain(path: Path, folder: Path) -> tuple[Path, tuple[int, int]]:
    """The image's path, or that of a plain copy in ``folder`` where programs would see different things; its size.

    Servers turn a photo as its EXIF tag says, ms-swift's loader does not: it would train on what
    nobody was asked about.

    Raises:
        ImageError: missing, not an image, or broken.
    """
    copy = (folder / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.png").absolute()
    with opened(path) as image:
        if is_plain(image):
            return path, image.size
        upright = rgb(image)
    # One that is there stays untouched: a training is known by its files.
    if not copy.exists() or copy.stat().st_mtime_ns < path.stat().st_mtime_ns:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = copy.with_suffix(".tmp")
        upright.save(scratch, "PNG")
        scratch.replace(copy)
    return copy, upright.size


def reduced(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """Width and height that Qwen2-VL makes of a larger image: multiples of 28 under ``max_pixels``.

    Source: ``smart_resize`` in transformers' Qwen2-VL image processor.
    """
    sides = [max(FACTOR, round(side / FACTOR) * FACTOR) for side in (width, height)]
    if sides[0] * sides[1] > max_pixels:
        scale = math.sqrt(width * height / max_pixels)
        sides = [max(FACTOR, math.floor(side / scale / FACTOR) * FACTOR) for side in (width, height)]
    return sides[0], sides[1]


def _data_url(mime: str, content: bytes) -> bytes:
    return b"data:%s;base64,%s" % (mime.encode(), pybase64.b64encode(content))


def _grey() -> bytes:
    drawn = io.BytesIO()
    Image.new("L", (2 * FACTOR, 2 * FACTOR), 128).save(drawn, "PNG")
    return _data_url("image/png", drawn.getvalue())


TINY = _grey()  # an image for a request that only wants to know whether images are taken
