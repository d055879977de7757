"""Images decoded with Pillow: converted to what every program sees alike, and reduced as the model would."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from vd100k.images import sniff, wide
from vd100k.images.decode import opened
from vd100k.images.memory import MemoryBudget
from vd100k.images.resizing import SizeRule

SENT_AS_IS = {"JPEG": "image/jpeg", "PNG": "image/png"}
ENDS = {"JPEG": sniff.JPEG_END, "PNG": sniff.PNG_END}
PLAIN_MODES = {"L", "RGB"}
WIDE = {"I", "F"}  # a grey value of 32 bits: integer, float
# Formats of photos that few servers and trainers read: a JPEG is sent, and trained on, instead.
RARE_PHOTOS = {"HEIF", "AVIF"}
ORIENTATION = 0x0112  # EXIF
SIDEWAYS = {5, 6, 7, 8}  # orientations that exchange width and height
QUALITY = 95  # of a JPEG
BYTES_PER_PIXEL = 7  # the decoded image (up to 4), and its RGB copy
_DECODED = MemoryBudget(1 << 30)

warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd and large files that it reads anyway


def sendable(content: bytes, rule: SizeRule) -> tuple[str, bytes]:
    """The MIME type and the bytes to send for an image file: its own bytes if it is plain and under the cap."""
    with opened(io.BytesIO(content)) as image:
        if image.width * image.height <= rule.max_pixels and _whole(image, content) and is_plain(image):
            return SENT_AS_IS[str(image.format)], content
        with memory_for(image):
            return _recoded(image, rule)


def memory_for(image: Image.Image) -> contextlib.AbstractContextManager[None]:
    """Wait until the pixels of the image fit into the memory that all threads may use together for decoding."""
    return _DECODED.taken(image.width * image.height * BYTES_PER_PIXEL)


def _whole(image: Image.Image, content: bytes) -> bool:
    """Whether a PNG or JPEG has its end marker; a truncated file is otherwise found only by decoding it."""
    return content.endswith(ENDS.get(str(image.format), ()))


def _recoded(image: Image.Image, rule: SizeRule) -> tuple[str, bytes]:
    lossy = is_photo(image)
    size = rule.sent(*image.size)
    if lossy:
        image.draft("RGB", (2 * max(size), 2 * max(size)))  # decode no larger than a good reduction needs
    turned = rgb(image)
    if turned.size != image.size:  # rotated by 90 degrees
        size = size[::-1]
    encoded = io.BytesIO()
    if turned.size != size:
        turned = turned.resize(size, Image.Resampling.BICUBIC)
    turned.save(encoded, "JPEG", quality=QUALITY) if lossy else turned.save(encoded, "PNG", compress_level=1)
    return ("image/jpeg" if lossy else "image/png"), encoded.getvalue()


def is_photo(image: Image.Image) -> bool:
    """Whether its format loses details anyway, so that a copy of it may be a JPEG."""
    return image.format == "JPEG" or image.format in RARE_PHOTOS


def is_plain(image: Image.Image) -> bool:
    """Whether every program decodes it alike: a common format, 8-bit grey or RGB, one frame, not rotated, opaque."""
    return (
        image.format not in RARE_PHOTOS
        and image.mode in PLAIN_MODES
        and getattr(image, "n_frames", 1) == 1
        and image.getexif().get(ORIENTATION, 1) == 1
        and "transparency" not in image.info
    )


def rgb(image: Image.Image) -> Image.Image:
    """The first frame as upright RGB; wider grey values are scaled to 8 bits, transparent pixels become white.

    Raises:
        ValueError: a pixel of a float image is not a finite number.
    """
    if image.getexif().get(ORIENTATION, 1) != 1:  # otherwise this would make a copy
        image = ImageOps.exif_transpose(image)
    if image.mode in WIDE or image.mode.startswith("I;16"):  # Pillow clips at 255 instead of scaling
        return wide.to_8_bits(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def upright(path: Path | str) -> Image.Image:
    """``rgb`` of an image file, decoded while the file is open; Pillow otherwise reads the pixels when they are needed.

    Raises:
        OSError: the file cannot be read. Pillow's decoders raise many other types.
    """
    with opened(path) as image:
        turned = rgb(image)
        turned.load()
        return turned
