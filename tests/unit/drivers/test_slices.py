"""Slices: whatever is split, taken and given back, each image is in one of them, and the last ones are small."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from vd100k.drivers.slices import MOST, SLICES, Slice, Slices


def everything(slices: Slices, images: int | None) -> list[Slice]:
    """All slices, in the order in which they are handed out."""
    taken = []
    while one := slices.take(images):
        taken.append(one)
    return taken


@given(st.integers(2, 100), st.integers(1, 500), st.none() | st.integers(0, 10**7), st.sets(st.text(), max_size=30))
def test_slices_part_the_images(drivers: int, smallest: int, images: int | None, ids: set[str]) -> None:
    if images is None:
        images = 10**6  # unknown at first; without a number, splitting would have no end
        slices = Slices(drivers, smallest)
        first = slices.take(None)
        assert first
        taken = [first, *everything(slices, images)]
    else:
        taken = everything(Slices(drivers, smallest), images)
    assert sum(1 / one.n for one in taken) == 1
    for id in ids:
        assert sum(id in one for one in taken) == 1


@given(st.integers(1, 64), st.integers(1, 1000), st.text())
def test_halves_have_the_images_of_the_whole(k: int, n: int, id: str) -> None:
    whole = Slice((k - 1) % n + 1, n)
    assert sum(id in half for half in whole.halves()) == (id in whole)


@given(st.integers(2, 16), st.integers())
def test_slices_of_lost_drivers_are_handed_out_again_as_they_were(drivers: int, seed: int) -> None:
    random = Random(seed)
    slices, done, held = Slices(drivers, 32), list[Slice](), list[Slice]()
    while len(slices) or held:
        if held and (len(held) == drivers or not len(slices) or random.random() < 0.5):
            one = held.pop(random.randrange(len(held)))
            if random.random() < 0.3:
                slices.give_back(one)
                assert slices.take(100_000) == one
                held.append(one)
            else:
                done.append(one)
        elif one := slices.take(100_000):
            held.append(one)
    assert sum(1 / one.n for one in done) == 1


def test_the_last_slices_are_small_but_not_smaller_than_wanted() -> None:
    taken = everything(Slices(4, 100), 100_000)
    assert [one.n for one in taken[: SLICES - 4]] == [SLICES] * (SLICES - 4)
    sizes = [100_000 / one.n for one in taken]
    assert sizes == sorted(sizes, reverse=True)
    assert 100 <= sizes[-1] < 200


def test_a_few_images_are_not_split() -> None:
    assert everything(Slices(4, 100), 150) == [Slice(1, 1)]


def test_many_drivers_all_get_a_slice_at_once() -> None:
    slices = Slices(100, 32)
    assert all(slices.take(None) for _ in range(100))


def test_the_walks_over_very_many_names_take_no_longer_than_the_requests() -> None:
    assert max(one.n for one in everything(Slices(250, 32), 10**9)) == MOST
