"""An image file, turned into what a request carries or a trainer reads."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pybase64

from vd100k.images import sniff
from vd100k.images.resizing import SizeRule
from vd100k.io import fingerprint

if TYPE_CHECKING:
    from PIL import Image


See = Callable[["Image.Image", bool], None]  # called with an image, and whether every program decodes its file alike


class ImageError(ValueError):
    """An image cannot be used; the message says why."""


def is_unchanged(path: str, row: dict[str, Any]) -> bool:
    """Whether the image at ``path`` is the one that ``row`` was made from: an untouched file, or the same bytes."""
    if "image_sha256" not in row:
        return True
    return _is_same(path, row["image_mtime_ns"] if row.get("image") == path else None, row["image_sha256"])


def are_unchanged(row: dict[str, Any]) -> bool:
    """Whether the images of a group, which ``row`` names in ``images``, are those that the row was made from."""
    recorded = zip(row["images"], row.get("images_mtime_ns", ()), row.get("images_sha256", ()), strict=False)
    return all(_is_same(*one) for one in recorded)


def _is_same(path: str, mtime_ns: object, sha256: object) -> bool:
    try:
        return mtime_ns == os.stat(path).st_mtime_ns or fingerprint.of_file(Path(path)) == str(sha256)
    except OSError:
        return True  # missing or out of reach is not changed


def facts_of(images: Sequence[Encoded]) -> dict[str, Any]:
    """What a row records of its image, or of each image of its group."""
    if len(images) == 1:
        return images[0].facts
    return {f"images_{name[6:]}": [image.facts[name] for image in images] for name in images[0].facts}


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
        # Opening a pipe would otherwise wait for a writer.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
        try:
            facts = os.fstat(file)
            if not stat.S_ISREG(facts.st_mode):
                raise ValueError("not a regular file")
            content = _read(file, facts.st_size)
        finally:
            os.close(file)
        recorded: dict[str, Any] = {"image_mtime_ns": facts.st_mtime_ns}
        recorded["image_sha256"] = hashlib.sha256(content).hexdigest()
        found = sniff.plain(content)
        if measure:
            recorded["image_size"] = found[1:] if found else upright_size(path)
        if found and found[1] * found[2] <= rule.max_pixels:
            return _encoded(found[0], content, recorded)
        from vd100k.images import transform  # slow to import, and plain images do not need it

        return _encoded(*transform.sendable(content, rule), recorded)


def _read(file: int, size: int) -> bytes:
    """The whole file; a single call is nearly always enough."""
    content = os.read(file, size)
    while len(content) < size and (more := os.read(file, size - len(content))):
        content += more
    return content


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

    with _as_image_error(path), _regular(path) as file, opened(file) as image, transform.memory_for(image):
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


def upright_size(path: str) -> tuple[int, int]:
    """The width and height of an image that is turned upright by its EXIF tag.

    Raises:
        ImageError: the file is missing, broken, or not an image.
    """
    from vd100k.images import transform

    with header(path) as image:
        return image.size[::-1] if image.getexif().get(transform.ORIENTATION, 1) in transform.SIDEWAYS else image.size


@contextlib.contextmanager
def header(path: Path | str) -> Iterator[Image.Image]:
    """An image of which only the header has been read.

    Raises:
        ImageError: the file is missing, broken, or not an image; also for whatever goes wrong within the context.
    """
    from vd100k.images.decode import opened

    with _as_image_error(path), _regular(Path(path)) as file, opened(file) as image:
        yield image


@contextlib.contextmanager
def _regular(path: Path) -> Iterator[IO[bytes]]:
    """The open file; a pipe or a device, which may never end, is an error."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("not a regular file")
        yield file


def _encoded(mime: str, content: bytes, facts: dict[str, Any]) -> Encoded:
    return Encoded(f"data:{mime};base64,".encode(), pybase64.b64encode(content), facts)


# 56 x 56 grey pixels, for a request that only tests whether the server accepts images.
TINY = (
    b"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAADgAAAA4CAAAAACN7WTCAAAAJUlEQVR42u3LMREAAAgEoNfkRreC5ww7Nfnp"
    b"iKIoiqIoiqIoniwCvwDw4JgfoQAAAABJRU5ErkJggg=="
)
