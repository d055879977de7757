"""Pictures of pairs of images side by side, for people to judge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from PIL import Image

from vd100k.images import transform
from vd100k.images.decode import opened

SHOWN = 24  # pairs
SIDE = 240  # pixels of each image, and of the gap between them
GAP = 8


def side_by_side(pairs: Iterable[tuple[str, str]], folder: Path) -> list[dict[str, str]]:
    """A picture in ``folder`` of each of the first pairs of image files, with its path and those of the two.

    A pair of which a file cannot be read any more is left out.
    """
    made = []
    for number, (first, second) in enumerate(islice(pairs, SHOWN), start=1):
        path = (folder / f"{number:02d}.png").absolute()
        with contextlib.suppress(Exception):  # Pillow's decoders raise errors of many types
            images = [_small(file) for file in (first, second)]
            folder.mkdir(parents=True, exist_ok=True)
            whole = Image.new("RGB", (2 * SIDE + GAP, SIDE), "white")
            for k, image in enumerate(images):
                whole.paste(image, (k * (SIDE + GAP), 0))
            whole.save(path)
            made.append({"picture": str(path), "first": first, "second": second})
    return made


def _small(path: str) -> Image.Image:
    with opened(path) as image, transform.memory_for(image):
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        small = transform.rgb(image).copy()
    scale = SIDE / max(small.size)  # small images are enlarged too: the two show the same at another size
    return small.resize((max(1, round(small.width * scale)), max(1, round(small.height * scale))))
