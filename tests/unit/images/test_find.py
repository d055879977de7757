"""The images that a folder or a list contains, and what is rejected."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vd100k.errors import DataError
from vd100k.images import find
from vd100k.images.find import ALL, ImageRef, Selection, links_outside


def found(images: Path, selection: Selection = ALL, **options: object) -> list[ImageRef]:
    return list(find.find_images(images, selection, **options))


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
    elsewhere = found(folder / "l.jsonl", image_folder=tmp_path / "photos/sub/..")
    assert [image.id for image in elsewhere] == ["sub/a.png", "link.png"]


def test_a_link_that_leads_outside_the_folder_is_not_followed(tmp_path: Path) -> None:
    secret = save(tmp_path / "secret/a.png")
    save(tmp_path / "photos/b.png")
    (tmp_path / "photos/link.png").symlink_to(secret)
    rejected: list[str] = []
    images = found(tmp_path / "photos", reject=lambda id, reason, detail: rejected.append(reason))
    assert [image.id for image in images] == ["b.png"]
    assert rejected == ["image_outside"]
    assert len(found(tmp_path / "photos", image_folder=tmp_path)) == 2


def test_a_missing_folder_and_an_empty_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        found(tmp_path / "gone")
    with pytest.raises(DataError, match="no images in it"):
        found(tmp_path)
