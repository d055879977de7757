"""Images on disk: listing them, and bringing one to what a request carries."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from vd100k import fingerprint
from vd100k.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
SENT_AS_IS = {"JPEG": "image/jpeg", "PNG": "image/png"}
FACTOR = 28  # Qwen-VL sees in 28 x 28 pixel tokens
ORIENTATION = 0x0112  # EXIF
BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow raises for a bad file


@dataclass(frozen=True)
class Picture:
    """An image file and its id, its path relative to the folder it was found in."""

    id: str
    path: Path


class ImageError(ValueError):
    """This one image cannot be used; the message says why."""


def find(images: str, limit: int | None = None) -> list[Picture]:
    """The images of a folder (searched to any depth, sorted) or of a .jsonl or .csv list, each once.

    A list has an ``image`` column of paths relative to the list's own folder.

    Raises:
        DataError: nothing there, no image in it, or a line of a list that names none.
    """
    source = Path(images).expanduser()
    if not source.exists():
        raise DataError(f"images={images}: no such folder or file. Give a folder of images, or a .jsonl or .csv list.")
    if source.is_dir():
        names: Iterator[str] = (
            path.relative_to(source).as_posix()
            for path in sorted(source.rglob("*"))
            if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        folder = source
    else:
        names, folder = iter(dict.fromkeys(_listed(source))), source.parent
    pictures = [Picture(name, folder / name) for name in islice(names, limit)]
    if not pictures:
        raise DataError(
            f"images={images}: no images in it (looked for {', '.join(sorted(SUFFIXES))}). Is it the right folder?"
        )
    return pictures


def identity(path: Path) -> dict[str, str | int]:
    """What a row keeps of its image, to know it again."""
    return {"image_mtime_ns": path.stat().st_mtime_ns, "image_sha256": fingerprint.of_file(path)}


def unchanged(path: Path, row: dict[str, Any]) -> bool:
    """Whether the image at ``path`` is the one of ``row``: the same untouched file, or the same bytes."""
    if "image_sha256" not in row or not path.exists():
        return True
    untouched: bool = row["image"] == str(path.absolute()) and row["image_mtime_ns"] == path.stat().st_mtime_ns
    return untouched or fingerprint.of_file(path) == str(row["image_sha256"])


def data_url(path: Path, max_pixels: int) -> str:
    """The image as a ``data:`` URL, at most ``max_pixels`` (width x height).

    A PNG or JPEG under the cap is sent byte by byte; anything else is turned upright, reduced to
    a multiple of Qwen-VL's 28-pixel grid under the cap, and sent as PNG.

    Raises:
        ImageError: missing, not an image, or broken.
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()  # a truncated file fails here, not at the server
            small = image.width * image.height <= max_pixels
            if small and image.format in SENT_AS_IS and image.getexif().get(ORIENTATION, 1) == 1:
                return _data_url(content, SENT_AS_IS[image.format])
            turned = ImageOps.exif_transpose(image).convert("RGB")
    except BROKEN as error:
        # Pillow names the in-memory stream, which tells a reader nothing.
        reason = "not an image" if "cannot identify" in str(error) else str(error)
        raise ImageError(f"{path}: {reason}") from error
    if not small:
        turned = turned.resize(reduced(turned.width, turned.height, max_pixels), Image.Resampling.BICUBIC)
    encoded = io.BytesIO()
    turned.save(encoded, "PNG")
    return _data_url(encoded.getvalue(), "image/png")


def upright(path: Path, folder: Path) -> Path:
    """The image's path, or that of an upright copy in ``folder`` where EXIF says it is turned.

    Servers turn a photo as its EXIF tag says, ms-swift's loader does not: it would train on what
    nobody was asked about.

    Raises:
        ImageError: missing, not an image, or broken.
    """
    try:
        with Image.open(path) as image:
            image.load()  # verify() would let a truncated file pass
            if image.getexif().get(ORIENTATION, 1) == 1:
                return path
            copy = folder / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.png"
            folder.mkdir(parents=True, exist_ok=True)
            ImageOps.exif_transpose(image).convert("RGB").save(copy)
            return copy.absolute()
    except BROKEN as error:
        raise ImageError(f"{path}: {error}") from error


def reduced(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """Width and height under ``max_pixels`` in steps of 28, the shape kept as nearly as that allows."""
    scale = math.sqrt(max_pixels / (width * height))
    return tuple(max(FACTOR, math.floor(side * scale / FACTOR) * FACTOR) for side in (width, height))  # type: ignore[return-value]


def _listed(source: Path) -> Iterator[str]:
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file) if source.suffix == ".csv" else _json_lines(file, source)
            for number, row in enumerate(rows, start=1):
                name = row.get("image") if isinstance(row, dict) else None
                if not name:
                    raise DataError(f'{source}, row {number}: no "image". Each row names an image file.')
                yield str(name)
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not text in UTF-8. Give a folder of images, or a .jsonl or .csv list.") from error


def _json_lines(lines: Iterator[str] | io.TextIOBase, source: Path) -> Iterator[dict[str, str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except ValueError as error:
            raise DataError(f"{source}, line {number}: not JSON ({error}). One object a line is expected.") from error


def _data_url(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
