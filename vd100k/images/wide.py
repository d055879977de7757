"""Grey images with more than 8 bits for each pixel, as microscopes, scanners and scientific libraries write them."""

from __future__ import annotations

from PIL import Image


def to_8_bits(image: Image.Image) -> Image.Image:
    """The image with grey values of 0 to 255.

    16-bit values keep their high byte. The format of a 32-bit image (modes I and F) does not tell what is white, so
    the smallest range that holds all values decides: 0 to 1 for floats, as scikit-image and imageio write them, then
    0 to 255, then 0 to 65535 for integers. Beyond these, the lowest value becomes black and the highest white, as
    in imageio.

    Raises:
        ValueError: a pixel is not a finite number.
    """
    if image.mode.startswith("I;16"):
        return image.convert("I").point(lambda value: value / 256).convert("L")
    import numpy as np  # slow to import, and such images are rare

    values = np.asarray(image, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():  # the lowest value is NaN if any is
        raise ValueError("a pixel is not a finite number (NaN or infinite), so no brightness can be derived")
    tops = (1.0, 255.0) if image.mode == "F" else (255.0, 65535.0)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:
        scaled = (values - low) * (255 / ((high - low) or 1))
    else:
        scaled = values // 256 if top > 255 else values * (255 / top)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
