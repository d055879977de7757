"""Sniffing the header of an image never contradicts Pillow."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from vd100k.images import sniff


def saved(mode: str, size: tuple[int, int], format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, format, **options)
    return file.getvalue()


@given(st.sampled_from(["L", "RGB"]), st.integers(1, 300), st.integers(1, 300), st.booleans(), st.booleans())
def test_plain_images_are_recognised_with_their_size(
    mode: str, width: int, height: int, jpeg: bool, special: bool
) -> None:
    if jpeg:
        content = saved(mode, (width, height), "JPEG", progressive=special, icc_profile=b"profile" if special else None)
        assert sniff.plain(content) == ("image/jpeg", width, height)
    else:
        content = saved(mode, (width, height), "PNG", dpi=(72, 72) if special else None)
        assert sniff.plain(content) == ("image/png", width, height)


def exif() -> Image.Exif:
    rotated = Image.Exif()
    rotated[0x0112] = 6
    return rotated


@pytest.mark.parametrize(
    "content",
    [
        saved("CMYK", (9, 9), "JPEG"),
        saved("RGB", (9, 9), "JPEG", exif=exif()),
        saved("RGB", (9, 9), "JPEG")[:-1],
        saved("RGB", (9, 9), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))]),
        saved("RGB", (9, 9), "PNG", exif=exif()),
        saved("RGB", (9, 9), "PNG", transparency=(0, 0, 0)),
        saved("RGB", (9, 9), "PNG", save_all=True, append_images=[Image.new("RGB", (9, 9), "red")]),
        saved("RGBA", (9, 9), "PNG"),
        saved("P", (9, 9), "PNG"),
        saved("I;16", (9, 9), "PNG"),
        saved("RGB", (9, 9), "PNG")[:-1],
        saved("RGB", (9, 9), "GIF"),
        saved("RGB", (9, 9), "WEBP"),
    ],
)
def test_all_other_images_are_left_to_pillow(content: bytes) -> None:
    assert sniff.plain(content) is None


@given(st.binary(max_size=60), st.sampled_from(["JPEG", "PNG"]), st.integers(0, 40))
@example(b"", "PNG", 30)
def test_any_bytes_are_sniffed_without_an_exception(junk: bytes, format: str, keep: int) -> None:
    whole = saved("RGB", (9, 9), format)
    end = sniff.JPEG_END if format == "JPEG" else sniff.PNG_END
    found = sniff.plain(whole[:keep] + junk + end)
    assert found is None or found[0] == f"image/{format.lower()}"
