"""What Pillow does for us: pixels that every program sees alike, of the size that the model would make them."""

from __future__ import annotations

import io
import math
import warnings

from PIL import Image, ImageOps

from vd100k.images import sniff as headers

SENT_AS_IS = {"JPEG": "image/jpeg", "PNG": "image/png"}
ENDS = {"JPEG": headers.JPEG_END, "PNG": headers.PNG_END}
PLAIN_MODES = {"L", "RGB"}
FACTOR = 28  # Qwen-VL sees in 28 x 28 pixel tokens
ORIENTATION = 0x0112  # EXIF

warnings.filterwarnings("ignore", module=r"PIL\.")  # remarks on odd and large files that it reads all the same


def sendable(content: bytes, max_pixels: int) -> tuple[str, bytes]:
    """MIME type and bytes of an image file as they are sent: its own, if it is plain and under the cap."""
    with Image.open(io.BytesIO(content)) as image:
        if image.width * image.height <= max_pixels and _whole(image, content) and is_plain(image):
            return SENT_AS_IS[str(image.format)], content
        return _recoded(image, max_pixels)


def _whole(image: Image.Image, content: bytes) -> bool:
    """Whether a PNG or JPEG has its end: one cut off would be found out by decoding alone."""
    return content.endswith(ENDS.get(str(image.format), ()))


def _recoded(image: Image.Image, max_pixels: int) -> tuple[str, bytes]:
    lossy = image.format == "JPEG"
    size = reduced(image.width, image.height, max_pixels) if image.width * image.height > max_pixels else image.size
    if lossy:
        image.draft("RGB", (2 * max(size), 2 * max(size)))  # decoded no larger than a good reduction needs
    turned = rgb(image)
    if turned.size != image.size:  # lying on its side
        size = size[::-1]
    encoded = io.BytesIO()
    if turned.size != size:
        turned = turned.resize(size, Image.Resampling.BICUBIC)
    turned.save(encoded, "JPEG", quality=95) if lossy else turned.save(encoded, "PNG", compress_level=1)
    return ("image/jpeg" if lossy else "image/png"), encoded.getvalue()


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


def reduced(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """Width and height that Qwen2-VL makes of a larger image: multiples of 28 under ``max_pixels``.

    Source: ``smart_resize`` in transformers' Qwen2-VL image processor.
    """
    sides = [max(FACTOR, round(side / FACTOR) * FACTOR) for side in (width, height)]
    if sides[0] * sides[1] > max_pixels:
        scale = math.sqrt(width * height / max_pixels)
        sides = [max(FACTOR, math.floor(side / scale / FACTOR) * FACTOR) for side in (width, height)]
    return sides[0], sides[1]
