"""An image file, turned into what a request carries or a trainer reads."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pybase64

from vd100k.images import sniff
from vd100k.images.resizing import SizeRule
from vd100k.stores import files

if TYPE_CHECKING:
    from PIL import Image


See = Callable[["Image.Image", bool], None]  # called with an image, and whether every program decodes its file alike


class ImageError(ValueError):
    """An image cannot be used; the message says why."""


def is_unchanged(path: str, row: dict[str, Any]) -> bool:
    """Whether the image at ``path`` is the one that ``row`` was made from: an untouched file, or the same bytes."""
    if "image_sha256" not in row:
        return True
    version = next((row[name] for name in files.VERSIONS if name in row), None)
    return _is_same(path, version if row.get("image") == path else None, row["image_sha256"])


def are_unchanged(row: dict[str, Any]) -> bool:
    """Whether the images of a group, which ``row`` names in ``images``, are those that the row was made from."""
    versions = next((row[name] for name in map(_of_group, files.VERSIONS) if name in row), ())
    recorded = zip(row["images"], versions, row.get("images_sha256", ()), strict=False)
    return all(_is_same(*one) for one in recorded)


def _is_same(path: str, version: object, sha256: object) -> bool:
    try:
        return version == files.version(path) or files.sha256(path) == str(sha256)
    except OSError:
        return True  # missing or out of reach is not changed


def facts_of(images: Sequence[Encoded]) -> dict[str, Any]:
    """What a row records of its image, or of each image of its group."""
    if len(images) == 1:
        return images[0].facts
    return {_of_group(name): [image.facts[name] for image in images] for name in images[0].facts}


def _of_group(name: str) -> str:
    """The field of a row that has a fact of several images."""
    return f"images_{name.removeprefix('image_')}"


@dataclass(slots=True)
class Encoded:
    """An image as a request carries it: a ``data:`` URL in two parts, and the ``facts`` that its row records."""

    head: bytes
    base64: bytes
    facts: dict[str, Any]

    @property
    def url(self) -> bytes:
        return self.head + self.base64


def encode(path: str, rule: SizeRule, measure: bool = False) -> Encoded:
    """The image in base64, no larger than the model sees it by its ``rule``; the file is read once.

    A plain PNG or JPEG under the cap is sent unchanged, without decoding it. Any other image is
    rotated upright, converted to RGB and reduced to the size that the model would reduce it to; a
    JPEG stays a JPEG, HEIC and AVIF become JPEG, and everything else becomes PNG. ``measure`` adds the upright size to
    the facts.

    Raises:
        ImageError: the file is missing, broken, or not an image.
    """
    with _as_image_error(path):
        content, recorded = files.read(path)
        recorded["image_sha256"] = hashlib.sha256(content).hexdigest()
        found = sniff.plain(content)
        if measure:
            recorded["image_size"] = found[1:] if found else upright_size(path, content)
        if found and found[1] * found[2] <= rule.max_pixels:
            return _encoded(found[0], content, recorded)
        from vd100k.images import transform  # slow to import, and plain images do not need it

        return _encoded(*transform.sendable(content, rule), recorded)


@contextlib.contextmanager
def _as_image_error(path: Path | str) -> Iterator[None]:
    """Turn any exception into an ImageError: Pillow's decoders raise many types on broken files."""
    try:
        yield
    except Exception as error:
        reason = "not an image" if "cannot identify" in str(error) else getattr(error, "strerror", None) or error
        raise ImageError(f"{path}: {reason}") from error


def plain(path: Path, folder: Path, see: See | None = None) -> tuple[Path, tuple[int, int]]:
    """The path and the size (width, height) of an image that every program decodes alike.

    If the image itself is not plain, this is a plain copy of it in ``folder``. Servers rotate a photo
    by its EXIF tag and ms-swift's loader does not, so training would see another image than the
    model that answered. ``see`` is called with the upright image, and whether the file itself is plain.

    Raises:
        ImageError: the file is missing, broken, or not an image.
    """
    from vd100k.images import transform
    from vd100k.images.decode import opened

    with _as_image_error(path), files.opened(path) as file, opened(file) as image, transform.memory_for(image):
        image.load()  # verify() accepts a truncated file
        is_plain = transform.is_plain(image)
        upright = image if is_plain else transform.rgb(image)
        if see is not None:
            see(upright, is_plain)
        if is_plain:
            return path, image.size
        # A rotated JPEG keeps its pixels in a PNG; the formats of phones would take ten times their size in one.
        suffix, format = (".jpg", "JPEG") if image.format in transform.RARE_PHOTOS else (".png", "PNG")
    copy = (folder / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}{suffix}").absolute()
    # An existing copy stays untouched, because a training run is identified by its files.
    if not copy.exists() or copy.stat().st_mtime_ns < path.stat().st_mtime_ns:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = copy.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        upright.save(scratch, format, quality=transform.QUALITY)
        scratch.replace(copy)
    return copy, upright.size


def upright_size(path: str, content: bytes | None = None) -> tuple[int, int]:
    """The width and height of an image that is turned upright by its EXIF tag; its ``content`` may be known already.

    Raises:
        ImageError: the file is missing, broken, or not an image.
    """
    from vd100k.images import transform

    with header(path, content) as image:
        return image.size[::-1] if image.getexif().get(transform.ORIENTATION, 1) in transform.SIDEWAYS else image.size


@contextlib.contextmanager
def header(path: Path | str, content: bytes | None = None) -> Iterator[Image.Image]:
    """An image of which only the header has been read.

    Raises:
        ImageError: the file is missing, broken, or not an image; also for whatever goes wrong within the context.
    """
    from vd100k.images.decode import opened

    with (
        _as_image_error(path),
        files.opened(path) if content is None else io.BytesIO(content) as file,
        opened(file) as image,
    ):
        yield image


def _encoded(mime: str, content: bytes, facts: dict[str, Any]) -> Encoded:
    return Encoded(f"data:{mime};base64,".encode(), pybase64.b64encode(content), facts)


# 56 x 56 grey pixels, for a request that only tests whether the server accepts images.
TINY = (
    b"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAADgAAAA4CAAAAACN7WTCAAAAJUlEQVR42u3LMREAAAgEoNfkRreC5ww7Nfnp"
    b"iKIoiqIoiqIoniwCvwDw4JgfoQAAAABJRU5ErkJggg=="
)
