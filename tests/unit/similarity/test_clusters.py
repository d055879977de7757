"""Copies of images are found, and images that only look alike are not taken for copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.similarity.pictures import CHANGES, Change, page, photo, shapes
from vd100k.similarity.cache import LookCache, take
from vd100k.similarity.clusters import Collection


def groups(folder: Path, images: dict[str, Image.Image]) -> list[set[str]]:
    """The names of the images that are found to be copies of each other."""
    folder.mkdir(exist_ok=True)
    with LookCache(folder / "cache") as looks, Collection(looks) as collection:
        for number, (name, image) in enumerate(images.items()):
            path = folder / f"{name}.png"
            image.save(path)
            collection.add(number, looks.add(take(str(path), image, True)), 0, str(path))
        return [{Path(member.path).stem for member in group} for group in collection.clusters()]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_is_found_among_other_images(change: Change, tmp_path: Path) -> None:
    originals = {
        **{f"photo{k}": photo(k) for k in range(12)},
        **{f"page{k}": page([k * 7919 + 31 * line for line in range(10)]) for k in range(4)},
        "shapes": shapes(["red", "green", "blue", "orange"]),
    }
    copies = {f"copy-of-{name}": change(originals[name]) for name in ("photo3", "page2", "shapes")}
    expected = [{name.removeprefix("copy-of-"), name} for name in copies]
    assert sorted(groups(tmp_path, originals | copies), key=sorted) == sorted(expected, key=sorted)


def test_pages_that_differ_in_a_digit_are_different(tmp_path: Path) -> None:
    numbers = [271828, 314159, 141421, 173205, 161803, 577215, 662607, 299792, 137035, 602214]
    pages = {f"page{k}": page([*numbers[:k], numbers[k] + 3, *numbers[k + 1 :]]) for k in range(10)}
    assert groups(tmp_path, {"page": page(numbers), **pages}) == []


def test_the_same_shapes_in_another_colour_are_different(tmp_path: Path) -> None:
    colours = ["red", "green", "blue", "orange"]
    changed = {f"shapes{k}": shapes([*colours[:k], "purple", *colours[k + 1 :]]) for k in range(4)}
    assert groups(tmp_path, {"shapes": shapes(colours), **changed}) == []


def test_grey_pictures_of_different_colours_are_not_mixed_up(tmp_path: Path) -> None:
    red, blue = shapes(["red"] * 4), shapes(["yellow"] * 4)
    found = groups(tmp_path, {"red": red, "yellow": blue, "grey": red.convert("L")})
    assert found == [{"red", "grey"}]


def test_blank_pages_are_copies_only_if_their_files_are_equal(tmp_path: Path) -> None:
    blank = Image.new("RGB", (300, 400), "white")
    nearly = Image.fromarray(np.full((400, 300, 3), 254, np.uint8))
    assert groups(tmp_path, {"one": blank, "two": blank, "other": nearly}) == [{"one", "two"}]


def test_several_processes_find_the_same_copies_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {f"page{k}": page([k * 7919 + 31 * line for line in range(10)]) for k in range(16)}
    copies = {f"copy-of-{name}": CHANGES["resized"](image) for name, image in pages.items()}
    alone = groups(tmp_path / "alone", pages | copies)
    monkeypatch.setattr("vd100k.similarity.clusters.PAIRS", 2)  # many small parts of the work
    assert groups(tmp_path / "shared", pages | copies) == alone
    assert alone == [{name, f"copy-of-{name}"} for name in pages]


def test_copies_of_copies_are_in_one_group(tmp_path: Path) -> None:
    image = photo(1)
    chain = {"a": image, "b": CHANGES["resized"](image), "c": CHANGES["compressed"](CHANGES["resized"](image))}
    assert groups(tmp_path, {**chain, "other": photo(2)}) == [{"a", "b", "c"}]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_few_different_images_are_no_problem(count: int, tmp_path: Path) -> None:
    assert groups(tmp_path, {f"photo{k}": photo(k) for k in range(count)}) == []


def test_an_image_that_is_gone_is_no_copy(tmp_path: Path) -> None:
    image, copy = photo(1), CHANGES["resized"](photo(1))
    with LookCache(tmp_path / "cache") as looks, Collection(looks) as collection:
        for number, one in enumerate((image, copy)):
            path = tmp_path / f"{number}.png"
            one.save(path)
            collection.add(number, looks.add(take(str(path), one, True)), 0, str(path))
            path.unlink()
        assert collection.clusters() == []
