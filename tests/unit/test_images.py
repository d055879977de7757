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
from vd100k.images import ImageError, data_url, find, reduced, upright


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
    assert [picture.id for picture in find(str(tmp_path))] == ["a/x.JPG", "a/y.webp", "b.png"]
    assert [picture.id for picture in find(str(tmp_path), limit=1)] == ["a/x.JPG"]


@pytest.mark.parametrize(("name", "text"), [("l.jsonl", '{"image": "b.png"}\n'), ("l.csv", "n,image\n1,b.png\n")])
def test_a_list_names_images_beside_it(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [(p.id, p.path) for p in find(str(tmp_path / name))] == [("b.png", tmp_path / "b.png")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"image": "a.png"}\n{oops}', "line 2: not JSON"),
        ('{"picture": "a.png"}', 'no "image"'),
        ("", "no images in it"),
    ],
)
def test_a_bad_list_says_where(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        find(str(path))


def test_nothing_there_and_nothing_in_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        find(str(tmp_path / "gone"))
    with pytest.raises(DataError, match="no images in it"):
        find(str(tmp_path))


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
    plain = save(tmp_path / "a.jpg")
    assert upright(plain, tmp_path / "upright") == plain
    exif = Image.Exif()
    exif[0x0112] = 6
    copy = upright(save(tmp_path / "b.jpg", exif=exif), tmp_path / "upright")
    assert Image.open(copy).size == (40, 60)
    assert copy.parent == tmp_path / "upright"


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
