"""Images as the trainer and as the server see them, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vd100k.parity.certificate import Certificate
from vd100k.parity.page import FOLDER
from vd100k.parity.pixels import Pixels

SIDE = 480  # pixels, the longest side of an image
GAP = 12  # pixels between the two
QUALITY = 80
WHITE = (255, 255, 255)


def save(certificate: Certificate, folder: Path) -> list[dict[str, Any]]:
    """Write a picture for each image of the certificate that is shown, and return the row and the path of each."""
    saved = []
    for number, pairs in certificate.pictures.items():
        for k, (trained, served) in enumerate(pairs, start=1):
            path = folder / FOLDER / f"{number}-{k}.webp"
            path.parent.mkdir(parents=True, exist_ok=True)
            beside(trained, served).save(path, "WEBP", quality=QUALITY)
            saved.append({"row": number, "image": k, "path": str(path.relative_to(folder))})
    return saved


def beside(trained: Pixels, served: Pixels) -> Image.Image:
    """The trained image to the left of the served one, at one scale."""
    scale = min(1.0, SIDE / max(*trained.shape[:2], *served.shape[:2]))
    images = [Image.fromarray(np.ascontiguousarray(one)) for one in (trained, served)]
    small = [one.resize([max(1, round(side * scale)) for side in one.size]) for one in images]
    width = small[0].width + GAP + small[1].width
    both = Image.new("RGB", (width, max(one.height for one in small)), WHITE)
    both.paste(small[0], (0, 0))
    both.paste(small[1], (small[0].width + GAP, 0))
    return both
