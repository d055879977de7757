"""Patches become images again, and the same image is told from a turned one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vd100k.parity.pixels import alike, from_patches, orientations


def patches(image: NDArray[np.uint8], patch: int, merge: int, frames: int) -> NDArray[np.uint8]:
    """The patches of an image as transformers makes them: its ``_preprocess`` for Qwen2-VL, in the same steps."""
    height, width, channels = image.shape
    stacked = np.stack([image.transpose(2, 0, 1)] * frames)
    rows, columns = height // patch, width // patch
    shape = (1, frames, channels, rows // merge, merge, patch, columns // merge, merge, patch)
    ordered = stacked.reshape(shape).transpose(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return ordered.reshape(rows * columns, channels * frames * patch * patch)


def picture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([14, 16]), st.integers(1, 3), st.integers(0, 9))
def test_patches_become_the_image_again(rows: int, columns: int, patch: int, merge: int, seed: int) -> None:
    image = picture(rows * merge * patch, columns * merge * patch, seed)
    found = from_patches(patches(image, patch, merge, 2), (1, rows * merge, columns * merge), patch, merge, 2)
    assert np.array_equal(found, image)


def test_the_orientations_are_those_of_exif() -> None:
    image = picture(28, 42, 1)
    ways = [
        *(Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM),
        *(Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE),
        Image.Transpose.ROTATE_90,
    ]
    for (name, turned), way in zip(orientations(image), ways, strict=True):
        assert np.array_equal(turned, np.asarray(Image.fromarray(image).transpose(way))), name


@pytest.mark.parametrize("kind", ["noise", "smooth", "drawing"])
def test_recoding_an_image_keeps_it_alike_and_turning_it_does_not(kind: str) -> None:
    if kind == "noise":
        image = Image.fromarray(picture(224, 224, 3))
    elif kind == "smooth":
        image = Image.fromarray(picture(5, 5, 4)).resize((224, 224), Image.Resampling.BICUBIC)
    else:
        image = Image.new("RGB", (224, 224), "white")
        image.paste((0, 0, 0), (10, 10, 40, 20))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=95)
    recoded, exact = np.asarray(Image.open(encoded)), np.asarray(image)
    assert alike(exact, recoded, 14)
    assert not any(alike(turned, recoded, 14) for _, turned in orientations(exact))


def test_images_of_different_sizes_are_not_alike() -> None:
    assert not alike(picture(28, 28, 0), picture(28, 56, 0), 14)
