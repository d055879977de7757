"""Looks are kept between runs, and an image is looked at again only when its file has changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.similarity.pictures import photo
from vd100k.similarity.cache import NAMES, LookCache, take
from vd100k.similarity.look import LOOK, Hashes
from vd100k.similarity.search import pairs


def test_a_look_is_found_again_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    photo(1).save(path)
    with LookCache(tmp_path / "cache") as looks:
        assert looks.find(str(path)) is None
        looks.add(take(str(path), photo(1), True))
    with LookCache(tmp_path / "cache") as looks:
        number = looks.find(str(path))
        assert number is not None
        assert looks.look(number)["size"].tolist() == [240, 180]
        assert looks.thumbnails([number]).shape == (1, 32, 32, 3)
        os.utime(path, ns=(1, 1))
        assert looks.find(str(path)) is None


def test_two_runs_at_the_same_time_keep_the_looks_of_both(tmp_path: Path) -> None:
    paths = [tmp_path / f"{k}.png" for k in range(2)]
    for k, path in enumerate(paths):
        photo(k).save(path)
    with LookCache(tmp_path / "cache") as first, LookCache(tmp_path / "cache") as second:
        first.add(take(str(paths[0]), photo(0), True))
        second.add(take(str(paths[1]), photo(1), False))
    with LookCache(tmp_path / "cache") as looks:
        found = [looks.find(str(path)) for path in paths]
        assert [bool(looks.look(number)["plain"]) for number in found if number is not None] == [True, False]


def test_what_a_crash_left_behind_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    photo(1).save(path)
    with LookCache(tmp_path / "cache") as looks:
        looks.add(take(str(path), photo(1), True))
    for name in NAMES:
        with (tmp_path / "cache" / name).open("ab") as file:
            file.write(b"torn")
    with LookCache(tmp_path / "cache") as looks:
        assert len(looks) == 1
        looks.add(take(str(path), photo(1), True))
    with LookCache(tmp_path / "cache") as looks:
        assert len(looks) == 2
        assert looks.looks(0, 2)["content"].tolist() == [looks.look(0)["content"]] * 2


@given(st.integers(2, 300), st.integers(0, 2**32 - 1), st.integers(0, 12))
@settings(max_examples=30)
def test_hashes_that_differ_in_few_bits_are_found(count: int, seed: int, flipped: int) -> None:
    rng = np.random.default_rng(seed)
    whole = rng.integers(0, 256, (count, LOOK["hash"].shape[0]), np.uint8)
    framed = rng.integers(0, 256, (count, LOOK["framed"].shape[0]), np.uint8)
    trimmed = rng.integers(0, 256, (count, LOOK["trimmed"].shape[0]), np.uint8)
    whole[1] = whole[0]
    for bit in rng.choice(256, flipped, replace=False).tolist():
        whole[1, bit // 8] ^= 1 << bit % 8
    hashes = Hashes(whole, framed, trimmed)
    some = pairs(count, lambda a, b: Hashes(*(part[a:b] for part in hashes)))
    found = {tuple(sorted(pair)) for block in some for pair in block.tolist()}
    assert (0, 1) in found
    assert all(a < b < count for a, b in found)
