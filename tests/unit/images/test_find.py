"""The images that a folder or a list contains, and what is rejected."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vd100k.errors import DataError
from vd100k.images import find
from vd100k.images.find import ALL, Selection
from vd100k.images.groups import ImageRef
from vd100k.images.ignored import Ignored
from vd100k.images.paths import links_outside


def found(images: Path, selection: Selection = ALL, **options: object) -> list[ImageRef]:
    return list(find.find_images(str(images), selection, **options))


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40), "red").save(path)
    return path


def test_a_folder_is_searched_recursively_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.png", "a/x.JPG", "a/y.webp"):
        save(tmp_path / name)
    (tmp_path / "note.txt").write_text("no", encoding="utf-8")
    assert [image.id for image in found(tmp_path)] == ["a/x.JPG", "a/y.webp", "b.png"]
    assert [image.id for image in found(tmp_path, Selection(limit=1))] == ["a/x.JPG"]


@pytest.mark.parametrize(("name", "text"), [("l.jsonl", '{"image": "b.png"}\n'), ("l.csv", "n,image\n1,b.png\n")])
def test_the_paths_of_a_list_are_relative_to_its_folder(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [(image.id, image.path) for image in found(tmp_path / name)] == [("b.png", str(tmp_path / "b.png"))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{oops}", "not JSON"),
        ('{"picture": "a.png"}', 'no "image"'),
        ('{"image": "../a.png"}', "image_folder=FOLDER declares another"),
        ("", "no images in it"),
    ],
)
def test_a_list_without_images_is_an_error_with_the_reason(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        found(path)


def test_a_bad_line_of_a_list_is_rejected_and_the_others_are_used(tmp_path: Path) -> None:
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
    images = found(folder / "l.jsonl", reject=lambda *entry: rejected.append(entry))
    assert [image.id for image in images] == ["sub/a.png", "link.png"]
    assert [links_outside(str(folder), image.path) for image in images] == [False, True]
    assert [reason for _, reason, _ in rejected] == [
        "image_outside",
        "bad_line",
        "incomplete",
        "image_outside",
        "bad_line",
    ]
    elsewhere = found(folder / "l.jsonl", image_folder=str(tmp_path / "photos/sub/.."))
    assert [image.id for image in elsewhere] == ["sub/a.png", "link.png"]


def test_a_link_that_leads_outside_the_folder_is_not_followed(tmp_path: Path) -> None:
    secret = save(tmp_path / "secret/a.png")
    save(tmp_path / "photos/b.png")
    (tmp_path / "photos/link.png").symlink_to(secret)
    rejected: list[str] = []
    images = found(tmp_path / "photos", reject=lambda id, reason, detail: rejected.append(reason))
    assert [image.id for image in images] == ["b.png"]
    assert rejected == ["image_outside"]
    assert len(found(tmp_path / "photos", image_folder=str(tmp_path))) == 2


def test_a_missing_folder_and_an_empty_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        found(tmp_path / "gone")
    with pytest.raises(DataError, match="no images in it"):
        found(tmp_path)


def mixed_folder(folder: Path) -> Path:
    """Two photos among the files that come with photos."""
    save(folder / "a.jpg")
    save(folder / "trip/b.JPG")
    for name in ("._a.jpg", ".thumbnails/a.jpg", "c.mov", "d.MOV", "e.cr2", "README", "notes.of the trip"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "gone.jpg").symlink_to(folder / "deleted.jpg")
    (folder / "trips").symlink_to(folder / "trip")
    return folder


def test_files_that_are_not_images_are_counted_by_their_kind(tmp_path: Path) -> None:
    ignored, rejected = Ignored(), []
    images = found(mixed_folder(tmp_path), ignored=ignored, reject=lambda *entry: rejected.append(entry))
    assert [image.id for image in images] == ["a.jpg", "trip/b.JPG"]
    assert not rejected
    assert find.count_images(str(tmp_path)) == 2
    assert str(ignored) == (
        "9 files ignored: .mov 2, .cr2 1, hidden 2, broken links 1, links to folders 1, no suffix 1, others 1"
    )


def test_an_empty_folder_says_what_it_holds_instead_of_images(tmp_path: Path) -> None:
    (tmp_path / "film.mov").touch()
    with pytest.raises(DataError, match=r"Is it the right folder\? 1 file ignored: \.mov 1\."):
        found(tmp_path)


def test_any_number_of_odd_names_is_counted_in_constant_memory(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for k in range(200):
        (tmp_path / f"x.{k}").touch()
    ignored = Ignored()
    found(tmp_path, ignored=ignored)
    assert (ignored.total(), len(ignored)) == (200, 41)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "photos.csv",
            "file,caption\na.png,b\n",
            r"csv, line 1: no column image or images; columns found: file, caption",
        ),
        ("photos.jsonl", '{"file": "a.png"}\n', r'photos\.jsonl, line 1: no "image".*; columns found: file\.'),
    ],
)
def test_a_list_without_the_image_column_names_the_columns_it_has(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        found(tmp_path / name)
