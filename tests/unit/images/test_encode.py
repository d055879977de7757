"""Finding images, and what a request carries."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vd100k.errors import DataError
from vd100k.images import find
from vd100k.images.encode import ImageError, encode, plain
from vd100k.images.find import ALL, ImageRef, Selection, links_outside
from vd100k.images.transform import reduced


def found(images: Path, selection: Selection = ALL, **options: object) -> list[ImageRef]:
    return list(find.find_images(images, selection, **options))


def data_url(path: Path, max_pixels: int) -> str:
    return encode(str(path), max_pixels).url.decode()


def sent(url: str) -> tuple[str, Image.Image]:
    head, _, body = url.partition(",")
    return head, Image.open(io.BytesIO(base64.b64decode(body)))


def save(path: Path, size: tuple[int, int] = (60, 40), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path, **options)
    return path


def test_a_folder_is_searched_to_any_depth_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a/x.JPG", "a/y.webp"):
        save(tmp_path / name)
    (tmp_path / "note.txt").write_text("no", encoding="utf-8")
    assert [picture.id for picture in found(tmp_path)] == ["a/x.JPG", "a/y.webp", "b.png"]
    assert [picture.id for picture in found(tmp_path, Selection(limit=1))] == ["a/x.JPG"]


@pytest.mark.parametrize(("name", "text"), [("l.jsonl", '{"image": "b.png"}\n'), ("l.csv", "n,image\n1,b.png\n")])
def test_a_list_names_images_beside_it(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [(p.id, p.path) for p in found(tmp_path / name)] == [("b.png", str(tmp_path / "b.png"))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{oops}", "not JSON"),
        ('{"picture": "a.png"}', 'no "image"'),
        ('{"image": "../a.png"}', "image_folder=FOLDER declares another"),
        ("", "no images in it"),
    ],
)
def test_a_list_of_no_images_says_why(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        found(path)


def test_a_bad_line_of_a_list_is_rejected_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    save(folder / "sub/a.png")
    save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    names = [b'"sub/a.png"', b'"../secret.png"', b'"link.png"', b'"sub/../sub/a.png"', b'"b\xff.png"', b"7"]
    names.append(f'"{tmp_path}/secret.png"'.encode())
    names.append(f'"{folder}/sub/a.png"'.encode())
    (folder / "l.jsonl").write_bytes(
        b"\xef\xbb\xbf" + b"".join(b'{"image": %s}\n' % name for name in names) + b'{"image": "to'
    )
    rejected: list[tuple[str, str, str]] = []
    pictures = found(folder / "l.jsonl", reject=lambda *why: rejected.append(why))
    assert [picture.id for picture in pictures] == ["sub/a.png", "link.png"]
    assert [links_outside(str(folder), picture.path) for picture in pictures] == [False, True]
    assert [reason for _, reason, _ in rejected] == [
        "image_outside",
        "bad_line",
        "incomplete",
        "image_outside",
        "bad_line",
    ]
    elsewhere = found(folder / "l.jsonl", image_folder=tmp_path / "photos/sub/..")
    assert [picture.id for picture in elsewhere] == ["sub/a.png", "link.png"]


def test_a_link_that_links_outside_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    secret = save(tmp_path / "secret/a.png")
    save(tmp_path / "photos/b.png")
    (tmp_path / "photos/link.png").symlink_to(secret)
    rejected: list[str] = []
    pictures = found(tmp_path / "photos", reject=lambda id, reason, detail: rejected.append(reason))
    assert [picture.id for picture in pictures] == ["b.png"]
    assert rejected == ["image_outside"]
    assert len(found(tmp_path / "photos", image_folder=tmp_path)) == 2


def test_nothing_there_and_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        found(tmp_path / "gone")
    with pytest.raises(DataError, match="no images in it"):
        found(tmp_path)


@pytest.mark.parametrize(("suffix", "mime"), [("png", "image/png"), ("jpg", "image/jpeg")])
def test_small_ones_are_sent_byte_by_byte(tmp_path: Path, suffix: str, mime: str) -> None:
    path = save(tmp_path / f"a.{suffix}")
    head, _, body = data_url(path, 10_000).partition(",")
    assert head == f"data:{mime};base64"
    assert base64.b64decode(body) == path.read_bytes()


def test_others_become_png_under_their_own_type(tmp_path: Path) -> None:
    path = save(tmp_path / "named.jpg", format="WEBP")
    head, image = sent(data_url(path, 10_000))
    assert (head, image.size) == ("data:image/png;base64", (60, 40))


def test_a_turned_photo_is_sent_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.jpg", exif=exif)
    assert sent(data_url(path, 10_000))[1].size == (40, 60)


def test_training_sees_a_turned_photo_upright_too(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg")
    assert plain(path, tmp_path / "plain") == (path, (60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    copy, size = plain(save(tmp_path / "b.jpg", exif=exif), tmp_path / "plain")
    assert Image.open(copy).size == size == (40, 60)
    assert copy.parent == tmp_path / "plain"


def odd_image(kind: str, path: Path) -> tuple[int, int, int]:
    """Save an image of a kind that programs read differently; the colour everybody should see."""
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
    wanted = odd_image(kind, path)
    _, asked = sent(data_url(path, 10_000))
    copy, size = plain(path, tmp_path / "plain")
    trained = Image.open(copy)
    for image in (asked, trained):
        assert image.mode == "RGB"
        assert image.size == size == (60, 40)
        assert all(abs(a - b) < 4 for a, b in zip(image.getpixel((20, 20)), wanted, strict=True))


def test_an_image_of_two_hundred_megapixels_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "vast.png"
    Image.new("1", (20_000, 10_000)).save(path)
    with pytest.raises(ImageError, match="exceeds limit"):
        plain(path, tmp_path)


def test_a_text_file_and_a_torn_one_are_told_apart_from_images(tmp_path: Path) -> None:
    text = tmp_path / "a.jpg"
    text.write_text("hello", encoding="utf-8")
    with pytest.raises(ImageError, match=r"a\.jpg: not an image"):
        data_url(text, 10_000)
    torn = save(tmp_path / "b.jpg", (400, 400))
    torn.write_bytes(torn.read_bytes()[:-500])
    with pytest.raises(ImageError, match=r"b\.jpg: .*truncated"):
        data_url(torn, 1_000_000)


sides = st.integers(1, 20_000)


@given(sides, sides, st.integers(28 * 28, 4_000_000))
def test_reduced_fits_the_cap_and_the_grid(width: int, height: int, cap: int) -> None:
    if width * height <= cap:
        return
    new = reduced(width, height, cap)
    assert all(side % 28 == 0 and side > 0 for side in new)
    # A strip thinner than one token is widened to it, so only such a one may pass the cap.
    assert new[0] * new[1] <= cap or 28 in new
