"""Images on disk: listing them, and bringing one to what a request carries."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from vd100k import fingerprint, lines
from vd100k.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
SENT_AS_IS = {"JPEG": "image/jpeg", "PNG": "image/png"}
PLAIN_MODES = {"L", "RGB"}
FACTOR = 28  # Qwen-VL sees in 28 x 28 pixel tokens
ORIENTATION = 0x0112  # EXIF

warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on odd and large files that it reads all the same


@dataclass(frozen=True)
class Picture:
    """An image file and its id, its path relative to the folder it was found in."""

    id: str
    path: Path


class ImageError(ValueError):
    """This one image cannot be used; the message says why."""


Refuse = Callable[[str, str, str], None]  # id (or line), reason in a word, in a sentence


def find(
    images: str,
    limit: int | None = None,
    image_folder: Path | None = None,
    refuse: Refuse = lambda id, reason, detail: None,
) -> list[Picture]:
    """The images of a folder (searched to any depth, sorted) or of a .jsonl or .csv list, each once.

    A list has an ``image`` column of paths in ``image_folder``, or in the list's own folder. What
    it names outside of that, and lines that name nothing, go to ``refuse``.

    Raises:
        DataError: nothing there, or no image in it.
    """
    source, first = Path(images).expanduser(), ""

    def refused(id: str, reason: str, detail: str) -> None:
        nonlocal first
        first = first or f" The first refused: {detail}."
        refuse(id, reason, detail)

    if not source.exists():
        raise DataError(f"images={images}: no such folder or file. Give a folder of images, or a .jsonl or .csv list.")
    if source.is_dir():
        found = _in_folder(source, image_folder or source, refused)
    elif source.suffix.lower() in lines.SUFFIXES:
        found = _listed(source, image_folder or source.parent, refused)
    else:
        raise DataError(f"images={images}: neither a folder of images nor a .jsonl or .csv list of them.")
    pictures = list(islice(found, limit))
    if not pictures:
        raise DataError(
            f"images={images}: no images in it (looked for {', '.join(sorted(SUFFIXES))}). "
            f"Is it the right folder?{first}"
        )
    return pictures


def within(folder: Path, name: str) -> Path | None:
    """The path of an image named relatively to ``folder`` or absolutely; None if it leads outside, also by a link."""
    try:
        real = (folder / name).resolve()
        return folder.absolute() / name if real.is_relative_to(folder.resolve()) else None
    except (OSError, ValueError, RuntimeError):  # a loop of links, a null byte
        return None


def outside(folder: Path) -> str:
    """Why an image is not read, in a sentence."""
    return f"not in {folder}, so it is not read; image_folder=FOLDER declares another"


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

    A plain PNG or JPEG under the cap is sent byte by byte; anything else is turned upright, brought
    to RGB, reduced to a multiple of Qwen-VL's 28-pixel grid under the cap, and sent as PNG.

    Raises:
        ImageError: missing, not an image, or broken.
    """
    with opened(path) as (image, content):
        small = image.width * image.height <= max_pixels
        if small and image.format in SENT_AS_IS and is_plain(image):
            return _data_url(content, SENT_AS_IS[image.format])
        turned = rgb(image)
    if not small:
        turned = turned.resize(reduced(turned.width, turned.height, max_pixels), Image.Resampling.BICUBIC)
    encoded = io.BytesIO()
    turned.save(encoded, "PNG")
    return _data_url(encoded.getvalue(), "image/png")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Image.Image, bytes]]:
    """The decoded image and its file's content; what fails with it open is its fault.

    Raises:
        ImageError: missing, not an image, broken, or of more pixels than Pillow dares to unpack.
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()  # verify() would let a truncated file pass
            yield image, content
    except Exception as error:  # Pillow raises whatever its decoders stumble over
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
    with opened(path) as (image, _):
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
    """Width and height under ``max_pixels`` in steps of 28, the shape kept as nearly as that allows."""
    scale = math.sqrt(max_pixels / (width * height))
    return tuple(max(FACTOR, math.floor(side * scale / FACTOR) * FACTOR) for side in (width, height))  # type: ignore[return-value]


def _in_folder(source: Path, folder: Path, refuse: Refuse) -> Iterator[Picture]:
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            id = path.relative_to(source).as_posix()
            if within(folder, str(path.absolute())) is None:  # a link
                refuse(id, "image_outside", outside(folder))
            else:
                yield Picture(id, path)


def _listed(source: Path, folder: Path, refuse: Refuse) -> Iterator[Picture]:
    seen = set()
    for number, row in lines.read(source):
        where = f"{source.name}, line {number}"
        if isinstance(row, lines.Fault):
            refuse(where, row.reason, row.detail)
            continue
        name = row.get("image")
        if not isinstance(name, str) or not name:
            refuse(where, "incomplete", 'no "image": each row names an image file')
            continue
        path = within(folder, name)
        if path is None:
            refuse(name, "image_outside", f"{where}: {outside(folder)}")
            continue
        id = Path(os.path.normpath(path)).relative_to(os.path.normpath(folder.absolute())).as_posix()
        if id not in seen:
            seen.add(id)
            yield Picture(id, path)


def _data_url(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
