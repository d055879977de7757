"""An image on disk, brought to what a request carries or a training reads."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pybase64

from vd100k.images import sniff as headers
from vd100k.io import fingerprint


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
    """An image as a request carries it, a ``data:`` URL in two parts, and what its row keeps to know it again."""

    head: bytes
    base64: bytes
    facts: dict[str, Any]

    @property
    def url(self) -> bytes:
        return self.head + self.base64


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
            return _encoded(found[0], content, known)
        from vd100k.images import transform as pixels  # only now: it takes a while, and plain images do without

        return _encoded(*pixels.sendable(content, max_pixels), known)


def _read(file: int, size: int) -> bytes:
    """The whole file; one call does it nearly always."""
    content = os.read(file, size)
    while len(content) < size and (more := os.read(file, size - len(content))):
        content += more
    return content


@contextlib.contextmanager
def _known(path: Path | str) -> Iterator[None]:
    """Whatever fails within is the image's fault: Pillow raises whatever its decoders stumble over."""
    try:
        yield
    except Exception as error:
        reason = "not an image" if "cannot identify" in str(error) else getattr(error, "strerror", None) or error
        raise ImageError(f"{path}: {reason}") from error


def plain(path: Path, folder: Path) -> tuple[Path, tuple[int, int]]:
    """The image's path, or that of a plain copy in ``folder`` where programs would see different things; its size.

    Servers turn a photo as its EXIF tag says, ms-swift's loader does not: it would train on what
    nobody was asked about.

    Raises:
        ImageError: missing, not an image, or broken.
    """
    copy = (folder / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.png").absolute()
    from PIL import Image

    from vd100k.images import transform as pixels

    with _known(path), Image.open(path) as image:
        image.load()  # verify() would let a truncated file pass
        if pixels.is_plain(image):
            return path, image.size
        upright = pixels.rgb(image)
    # One that is there stays untouched: a training is known by its files.
    if not copy.exists() or copy.stat().st_mtime_ns < path.stat().st_mtime_ns:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = copy.with_suffix(".tmp")
        upright.save(scratch, "PNG")
        scratch.replace(copy)
    return copy, upright.size


def _encoded(mime: str, content: bytes, facts: dict[str, Any]) -> Encoded:
    return Encoded(f"data:{mime};base64,".encode(), pybase64.b64encode(content), facts)


# 56 x 56 grey pixels, for a request that only wants to know whether images are taken.
TINY = (
    b"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAADgAAAA4CAAAAACN7WTCAAAAJUlEQVR42u3LMREAAAgEoNfkRreC5ww7Nfnp"
    b"iKIoiqIoiqIoniwCvwDw4JgfoQAAAABJRU5ErkJggg=="
)
