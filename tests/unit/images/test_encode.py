"""What a request and a trainer get of an image file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vd100k.images.encode import ImageError, encode, plain
from vd100k.images.transform import reduced


def data_url(path: Path, max_pixels: int) -> str:
    return encode(str(path), max_pixels).url.decode()


def sent(url: str) -> tuple[str, Image.Image]:
    head, _, body = url.partition(",")
    return head, Image.open(io.BytesIO(base64.b64decode(body)))


def save(path: Path, size: tuple[int, int] = (60, 40), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path, **options)
    return path


@pytest.mark.parametrize(("suffix", "mime"), [("png", "image/png"), ("jpg", "image/jpeg")])
def test_small_plain_images_are_sent_unchanged(tmp_path: Path, suffix: str, mime: str) -> None:
    path = save(tmp_path / f"a.{suffix}")
    head, _, body = data_url(path, 10_000).partition(",")
    assert head == f"data:{mime};base64"
    assert base64.b64decode(body) == path.read_bytes()


def test_other_images_are_sent_as_png_with_the_right_type(tmp_path: Path) -> None:
    path = save(tmp_path / "named.jpg", format="WEBP")
    head, image = sent(data_url(path, 10_000))
    assert (head, image.size) == ("data:image/png;base64", (60, 40))


def test_a_rotated_photo_is_sent_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.jpg", exif=exif)
    assert sent(data_url(path, 10_000))[1].size == (40, 60)


def test_training_reads_a_rotated_photo_upright_too(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg")
    assert plain(path, tmp_path / "plain") == (path, (60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    copy, size = plain(save(tmp_path / "b.jpg", exif=exif), tmp_path / "plain")
    assert Image.open(copy).size == size == (40, 60)
    assert copy.parent == tmp_path / "plain"


def odd_image(kind: str, path: Path) -> tuple[int, int, int]:
    """Save an image of a kind that programs decode differently, and return the colour that all should see."""
    red = (254, 0, 0)
    if kind == "cmyk":
        Image.new("CMYK", (60, 40), (0, 255, 255, 0)).save(path, "JPEG")
    elif kind == "sixteen":
        Image.new("I;16", (60, 40), 128 * 256).save(path, "PNG")
        return (128, 128, 128)
    elif kind == "palette":
        Image.new("RGB", (60, 40), red).quantize(4).save(path, "PNG")
    elif kind == "transparent":
        Image.new("RGBA", (60, 40), (0, 0, 0, 0)).save(path, "PNG")
        return (255, 255, 255)
    elif kind == "animated":
        frames = [Image.new("RGB", (60, 40), colour) for colour in (red, (0, 0, 255))]
        frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])
    return red


@pytest.mark.parametrize("kind", ["cmyk", "sixteen", "palette", "transparent", "animated"])
def test_odd_images_look_the_same_to_servers_and_trainers(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd.png"
    expected = odd_image(kind, path)
    _, requested = sent(data_url(path, 10_000))
    copy, size = plain(path, tmp_path / "plain")
    trained = Image.open(copy)
    for image in (requested, trained):
        assert image.mode == "RGB"
        assert image.size == size == (60, 40)
        assert all(abs(a - b) < 4 for a, b in zip(image.getpixel((20, 20)), expected, strict=True))


def test_an_image_of_two_hundred_megapixels_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "vast.png"
    Image.new("1", (20_000, 10_000)).save(path)
    with pytest.raises(ImageError, match="exceeds limit"):
        plain(path, tmp_path)


def test_a_text_file_and_a_truncated_image_are_errors(tmp_path: Path) -> None:
    text = tmp_path / "a.jpg"
    text.write_text("hello", encoding="utf-8")
    with pytest.raises(ImageError, match=r"a\.jpg: not an image"):
        data_url(text, 10_000)
    truncated = save(tmp_path / "b.jpg", (400, 400))
    truncated.write_bytes(truncated.read_bytes()[:-500])
    with pytest.raises(ImageError, match=r"b\.jpg: .*truncated"):
        data_url(truncated, 1_000_000)


sides = st.integers(1, 20_000)


@given(sides, sides, st.integers(28 * 28, 4_000_000))
def test_the_reduced_size_fits_the_cap_and_the_grid(width: int, height: int, cap: int) -> None:
    if width * height <= cap:
        return
    new = reduced(width, height, cap)
    assert all(side % 28 == 0 and side > 0 for side in new)
    # A strip thinner than one token is widened to one, so only such an image may exceed the cap.
    assert new[0] * new[1] <= cap or 28 in new
