"""Which endpoint gets an image, and how many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from vd100k.errors import ServerError
from vd100k.llm import pool as pool_module
from vd100k.llm.pool import Endpoint, Lease, Pool, Stopped


async def never(url: str) -> bool:
    return False


async def at_once(url: str) -> bool:
    return True


def pool(
    urls: str = "ab", most: int = 8, wait_s: float = 60, is_back: Callable[[str], Awaitable[bool]] = never
) -> Pool:
    return Pool(list(urls), most, wait_s, is_back)


def break_down(pool: Pool, endpoint: Endpoint) -> None:
    for _ in range(pool_module.QUARANTINE_AFTER):
        pool.record(endpoint, "failed", 0.1)


def test_an_image_goes_where_the_fewest_are() -> None:
    async def story() -> None:
        places = pool()
        one, other = await places.take(), await places.take()
        assert one is not other
        places.give_back(other)
        assert await places.take() is other

    asyncio.run(story())


def test_no_more_than_allowed_are_in_flight_and_those_that_wait_come_in_turn() -> None:
    async def story() -> list[int]:
        places, busy, most, order = pool(most=3), 0, 0, []

        async def image(k: int) -> None:
            nonlocal busy, most
            async with Lease(places):
                busy += 1
                most = max(most, busy)
                order.append(k)
                await asyncio.sleep(0)
                busy -= 1

        await asyncio.gather(*map(image, range(20)))
        assert most == 3
        return order

    assert asyncio.run(story()) == list(range(20))


def test_one_that_breaks_is_set_aside_and_its_images_move() -> None:
    async def story() -> None:
        places = pool()
        broken = places.endpoints[0]
        break_down(places, broken)
        taken = [await places.take() for _ in range(8)]
        assert broken not in taken
        places.close()

    asyncio.run(story())


def test_one_that_comes_back_gets_images_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "FIRST_PROBE_S", 0.01)

    async def story() -> None:
        places = pool("a", is_back=at_once)
        places.endpoints[0].probe_s = 0.01
        break_down(places, places.endpoints[0])
        assert await asyncio.wait_for(places.take(), 5) is places.endpoints[0]
        places.close()

    asyncio.run(story())


def test_when_none_comes_back_in_time_all_who_wait_are_told() -> None:
    async def story() -> None:
        places = pool(wait_s=0.1)
        for endpoint in places.endpoints:
            break_down(places, endpoint)
        waiting = [asyncio.ensure_future(places.take()) for _ in range(3)]
        for place in waiting:
            with pytest.raises(ServerError, match="did not answer for"):
                await place
        with pytest.raises(ServerError):
            await places.take()
        places.close()

    asyncio.run(story())


def test_what_is_asked_again_goes_elsewhere_and_before_what_is_new() -> None:
    async def story() -> None:
        places = pool(most=2)
        async with Lease(places) as place:
            first = place.url
            other = await places.take()
            new = asyncio.ensure_future(places.take())
            await asyncio.sleep(0)
            place.release()
            await asyncio.sleep(0)
            assert new.done(), "the place that was left is another's"
            newer = asyncio.ensure_future(places.take())
            again = asyncio.ensure_future(place.renew())
            await asyncio.sleep(0)
            places.give_back(other)
            await asyncio.sleep(0)
            assert again.done()
            assert not newer.done()
            assert place.url != first
            newer.cancel()

    asyncio.run(story())


def test_after_the_end_no_place_is_given() -> None:
    async def story() -> None:
        places = pool("a", most=1)
        await places.take()
        waiting = asyncio.ensure_future(places.take())
        await asyncio.sleep(0)
        places.end(Stopped())
        with pytest.raises(Stopped):
            await waiting

    asyncio.run(story())


def window(endpoint: Endpoint, most: int, latency_s: float, overloaded: float = 0.0) -> int:
    """A window's worth of replies, a share of them 429; the limit after it."""
    replies = max(pool_module.WINDOW, endpoint.limit)
    endpoint.in_flight = endpoint.limit
    for k in range(replies):
        endpoint.record("overloaded" if k < overloaded * replies else "answered", latency_s, most)
    return endpoint.limit


def test_fewer_are_sent_when_it_is_too_much_and_more_again_after() -> None:
    endpoint = Endpoint("a", 100)
    assert window(endpoint, 100, 0.2, overloaded=0.5) == 70
    assert window(endpoint, 100, 0.2, overloaded=0.5) == 49
    for _ in range(20):
        window(endpoint, 100, 0.2)
    assert endpoint.limit == 100


def test_some_that_are_refused_at_any_rate_slow_nothing_down() -> None:
    endpoint = Endpoint("a", 64)
    for _ in range(50):
        window(endpoint, 64, 0.2, overloaded=0.05)
    assert endpoint.limit == 64


def test_fewer_are_sent_while_it_slows_down_until_that_is_usual() -> None:
    endpoint = Endpoint("a", 64)
    window(endpoint, 64, 0.1)
    window(endpoint, 64, 0.5)
    assert window(endpoint, 64, 0.5) == 64, "an idle server is quicker, and no measure"
    assert window(endpoint, 64, 2.0) < 64
    limits = [window(endpoint, 64, 2.0) for _ in range(60)]
    assert min(limits) >= 1
    assert limits[-1] > min(limits), "slow answers all along are no sign of overload"


def test_at_least_one_is_sent() -> None:
    endpoint = Endpoint("a", 64)
    for _ in range(50):
        window(endpoint, 64, 0.2, overloaded=1.0)
    assert endpoint.limit == 1
