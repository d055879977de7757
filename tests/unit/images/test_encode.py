"""What a request and a trainer get of an image file."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image

from vd100k.images.encode import ImageError, encode, plain
from vd100k.images.resizing import SizeRule


def data_url(path: Path, max_pixels: int) -> str:
    return encode(str(path), SizeRule(28, 3136, max_pixels)).url.decode()


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


HALVES = {
    "floats from 0 to 1": ("F", 0.5, 128),
    "floats from 0 to 255": ("F", 200.0, 200),
    "8-bit values in 32 bits": ("I", 100, 100),
    "16-bit values in 32 bits": ("I", 200 * 256 + 7, 200),
    "16-bit values": ("I;16", 200 * 256 + 7, 200),
}


@pytest.mark.parametrize("kind", HALVES)
def test_a_tiff_of_wide_values_is_neither_black_nor_saturated(tmp_path: Path, kind: str) -> None:
    mode, value, seen = HALVES[kind]
    path = tmp_path / "wide.tif"
    Image.new(mode, (60, 40), value).save(path)
    copy, _ = plain(path, tmp_path / "plain")
    for image in (sent(data_url(path, 10_000))[1], Image.open(copy)):
        assert image.getpixel((20, 20)) == (seen, seen, seen)


@pytest.mark.parametrize(("mode", "low", "high"), [("F", -3.5, 9000.0), ("I", -5, 900_000)])
def test_values_of_an_unknown_range_fill_black_to_white(tmp_path: Path, mode: str, low: float, high: float) -> None:
    image = Image.new(mode, (60, 40), low)
    image.paste(high, (30, 0, 60, 40))
    image.save(tmp_path / "depth.tif")
    seen = sent(data_url(tmp_path / "depth.tif", 10_000))[1]
    assert [seen.getpixel((x, 20)) for x in (5, 55)] == [(0, 0, 0), (255, 255, 255)]


def test_a_tiff_with_pixels_that_are_no_numbers_is_refused_with_the_reason(tmp_path: Path) -> None:
    image = Image.new("F", (60, 40), 0.5)
    image.putpixel((3, 3), float("nan"))
    image.save(tmp_path / "hole.tif")
    with pytest.raises(ImageError, match=r"hole\.tif: a pixel is not a finite number"):
        data_url(tmp_path / "hole.tif", 10_000)


def save_half_red(path: Path, orientation: int) -> Path:
    """A photo of 60 x 40 pixels, its left half red and its right half blue, with an orientation in its EXIF data."""
    pillow_heif.register_heif_opener()
    image = Image.new("RGB", (60, 40), "blue")
    image.paste("red", (0, 0, 30, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif.tobytes(), quality=95)  # as bytes, HEIC gets the rotation of its own that counts
    return path


@pytest.mark.parametrize("suffix", ["heic", "heif", "hif", "avif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photo_of_a_phone_is_sent_and_trained_on_as_an_upright_jpeg(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    path = save_half_red(tmp_path / f"photo.{suffix}", orientation)
    head, requested = sent(data_url(path, 10_000))
    copy, size = plain(path, tmp_path / "plain")
    trained = Image.open(copy)
    assert head == "data:image/jpeg;base64"
    assert size == ((60, 40) if orientation == 1 else (40, 60))
    for image in (requested, trained):
        # Turned clockwise by a quarter once, the left half is the upper one.
        assert (image.format, image.size) == ("JPEG", size)
        assert image.getexif().get(0x0112, 1) == 1
        red, green, blue = image.getpixel((5, 5))
        assert red > 200 > 60 > max(green, blue)
        red, green, blue = image.getpixel((size[0] - 5, size[1] - 5))
        assert blue > 200 > 60 > max(red, green)


def test_a_heic_file_of_another_brand_and_name_is_read(tmp_path: Path) -> None:
    path = save_half_red(tmp_path / "photo.heic", 1)
    content = bytearray(path.read_bytes())
    content[8:12] = b"mif1"  # what some phones write, and what AVIF files may be called too
    (tmp_path / "photo.jpg").write_bytes(content)
    assert sent(data_url(tmp_path / "photo.jpg", 10_000))[1].size == (60, 40)


def test_a_large_heic_photo_is_reduced_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    pillow_heif.register_heif_opener()
    path = save(tmp_path / "large.heic", (600, 400))
    assert sent(data_url(path, 28 * 28 * 40))[1].size == SizeRule(28, 3136, 28 * 28 * 40).resized(600, 400)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match=r"large\.heic: "):
        data_url(path, 10_000)


def test_heic_support_is_loaded_only_when_a_heic_file_is_met(tmp_path: Path) -> None:
    save(tmp_path / "a.png", (600, 400))
    save_half_red(tmp_path / "b.heic", 1)
    program = "import sys; from vd100k.images.encode import encode; from vd100k.images.resizing import SizeRule; "
    program += "[encode(path, SizeRule(28, 3136, 20_000)) for path in sys.argv[1:]]; "
    program += "print('pillow_heif' in sys.modules)"
    for names, loaded in ((["a.png"], "False"), (["a.png", "b.heic"], "True")):
        call = [sys.executable, "-c", program, *(str(tmp_path / name) for name in names)]
        assert subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip() == loaded
