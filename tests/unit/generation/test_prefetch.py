"""Items prepared by threads are each taken once, whether the threads or the takers are faster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.generation.prefetch import Prefetcher


async def take_all(prefetcher: Prefetcher[int, int], takers: int) -> list[int]:
    taken: list[int] = []

    async def taker() -> None:
        while (item := await prefetcher.take()) is not None:
            taken.append(item)
            await asyncio.sleep(0)

    try:
        await asyncio.gather(*(taker() for _ in range(takers)))
    finally:
        prefetcher.stop()
    return taken


@given(st.integers(0, 300), st.integers(2, 8), st.integers(1, 20))
def test_each_item_is_taken_once(count: int, ahead: int, takers: int) -> None:
    async def story() -> list[int]:
        return await take_all(Prefetcher(iter(range(count)), lambda k: k, ahead), takers)

    assert sorted(asyncio.run(story())) == list(range(count))


def test_no_more_items_are_prepared_than_allowed() -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for k in range(1000):
            drawn += 1
            yield k

    async def story() -> None:
        prefetcher = Prefetcher(items(), lambda k: k, 8)
        assert await prefetcher.take() == 0
        await asyncio.sleep(0.1)
        prefetcher.stop()

    asyncio.run(story())
    assert drawn <= 8 + 8


def test_an_error_of_prepare_is_raised_by_take() -> None:
    def prepare(k: int) -> int:
        time.sleep(0.001)
        return 1 // (5 - k)

    async def story() -> None:
        await take_all(Prefetcher(iter(range(100)), prepare, 4), 3)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(story())
