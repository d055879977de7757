"""The one place where an image file is opened with Pillow."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import IO

from PIL import Image

from vd100k.stores import files

# The files of a container format begin with the length of a box and its name; HEIC and AVIF share the container.
CONTAINER, AVIF = b"ftyp", (b"avif", b"avis")
BEGINNING = 12  # bytes: the length, the name, the brand


def opened(source: Path | str | IO[bytes]) -> Image.Image:
    """The image, not decoded yet; to be used in a ``with`` statement. HEIC is upright when it is decoded.

    Raises:
        OSError: the file cannot be opened, or is not an image. Pillow's decoders raise many other types.
    """
    if isinstance(source, Path | str):
        if files.is_stored(str(source)):
            return opened(files.opened(source))
        with Path(source).open("rb") as file:
            beginning = file.read(BEGINNING)
    else:
        beginning = source.read(BEGINNING)
        source.seek(0)
    if beginning[4:8] == CONTAINER and beginning[8:] not in AVIF:
        _learn_heic()
    return Image.open(source)


@functools.cache
def _learn_heic() -> None:
    """Teach Pillow to read HEIC, once; only such a file should cost the 60 ms of the import. It reads AVIF itself."""
    import pillow_heif

    pillow_heif.register_heif_opener()
