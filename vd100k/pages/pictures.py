"""Pictures on a page: thumbnails, and larger ones to zoom into while the page is small enough."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vd100k.boxes import frames
from vd100k.boxes.box import Box
from vd100k.boxes.notations import Frame
from vd100k.images.groups import SEPARATOR, names
from vd100k.images.paths import within
from vd100k.images.resizing import SizeRule
from vd100k.stores import files
from vd100k.stores.urls import OutOfReach, is_url

if TYPE_CHECKING:
    from PIL import Image

SIDE = 320  # pixels, the longest side of a thumbnail
LARGE = 800  # pixels, the longest side of a picture to zoom into
LARGE_BYTES = 1_200_000  # of all larger pictures of a page together, as base64
# A thumbnail with more bytes, such as one of noise, is made smaller, so that a page of a hundred stays under 3 MB.
THUMBNAIL_BYTES = 14_000
UNKNOWN = SizeRule(28, 1, 1 << 20)  # what a model saw, if the run does not say it
Row = dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """A thumbnail and perhaps a larger picture as ``data:`` URLs, and the boxes in pixels of an image of ``size``."""

    url: str
    size: tuple[int, int]
    large: str | None = None
    boxes: list[Box] = field(default_factory=list)


class Album:
    """Makes the pictures of one page from image files in the declared ``folders``.

    ``frame`` is how the model of the answers writes boxes. The first pictures get a larger version, until ``large``
    bytes are spent.
    """

    def __init__(self, folders: list[str], frame: Frame | None = None, large: int = LARGE_BYTES) -> None:
        self.folders, self.frame, self.budget = folders, frame or frames.named(None, UNKNOWN), large
        self.made: dict[str, Picture | None] = {}

    def pictures(self, row: Row, rows: Iterable[Row] = ()) -> list[Picture]:
        """The pictures of a row's image or images that can be read; of a row that names none, those of its id.

        Only a single one gets the boxes of ``rows``: they do not say which of several images they are in.
        """
        given = names(row) or str(row.get("id")).split(SEPARATOR)
        shown = [self.picture(name, rows if len(given) == 1 else ()) for name in given]
        return [picture for picture in shown if picture]

    def picture(self, path: object, rows: Iterable[Row] = ()) -> Picture | None:
        """The picture of an image file with the boxes of rows about it; None if it cannot be read.

        These are a row's ``boxes``, or those that its ``answer`` names.

        A row may name any file, and a page is made to be sent on. So nothing outside the declared folders is read,
        whether it is named by its path or through a link. A relative name is one in the first folder that has it.
        """
        file = self._inside(path)
        if file is None:
            return None
        if file not in self.made:
            self.made[file] = self._read(file)
        plain = self.made[file]
        if plain is None:
            return None
        boxes = [box for row in rows for box in frames.of_row(row, self.frame, plain.size)]
        # The larger version is on the page once, with the first card.
        self.made[file] = Picture(plain.url, plain.size)
        return Picture(plain.url, plain.size, plain.large, boxes)

    def _inside(self, path: object) -> str | None:
        inside = (within(folder, path) for folder in self.folders) if isinstance(path, str) and path else ()
        return next((one for one in inside if one and (is_url(one) or files.exists(one))), None)

    def _read(self, file: str) -> Picture | None:
        from vd100k.images import transform
        from vd100k.images.decode import opened

        try:
            with opened(file) as image:
                size = image.size
                image.draft("RGB", (LARGE, LARGE))
                upright = transform.rgb(image)
                if (upright.width < upright.height) != (size[0] < size[1]):  # rotated by EXIF
                    size = size[::-1]
                large = self._large(upright) if max(upright.size) > SIDE * 1.25 else None
                return Picture(data_url("image/webp", _thumbnail(upright)), size, large)
        except OutOfReach:  # a page is made all the same, without waiting for the server again for each picture
            self.folders = [folder for folder in self.folders if not is_url(folder)]
            return None
        except Exception:  # Pillow's decoders raise errors of many types
            return None

    def _large(self, image: Image.Image) -> str | None:
        if self.budget <= 0:
            return None
        image.thumbnail((LARGE, LARGE))
        url = data_url("image/webp", webp(image, 70, 0))
        if len(url) > self.budget:
            self.budget = 0  # later ones would be as large
            return None
        self.budget -= len(url)
        return url


def thumbnail(path: object, folders: list[str]) -> str | None:
    """The thumbnail of an image file in the declared folders as a ``data:`` URL; None if it cannot be read."""
    found = Album(folders).picture(path)
    return found.url if found else None


def _thumbnail(image: Image.Image) -> bytes:
    """The image as WebP, at most ``SIDE`` pixels long; smaller if it has too many bytes."""
    image.thumbnail((SIDE, SIDE))
    encoded = webp(image, 75, 2)
    if len(encoded) > THUMBNAIL_BYTES:
        image.thumbnail((SIDE * 3 // 4, SIDE * 3 // 4))
        encoded = webp(image, 40, 2)
    return encoded


def webp(image: Image.Image, quality: int, effort: int) -> bytes:
    """The image as WebP, with a quality of 0 to 100 and an effort of 0 to 6."""
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=quality, method=effort)
    return encoded.getvalue()


def data_url(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
