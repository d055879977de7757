"""Which endpoint an image goes to, and how many are in flight there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from vd100k.errors import ServerError
from vd100k.llm import pool
from vd100k.llm.pool import Endpoint, Lease, Pool, Stopped


async def never(url: str) -> bool:
    return False


async def always(url: str) -> bool:
    return True


def make_pool(
    urls: str = "ab", max_in_flight: int = 8, wait_s: float = 60, is_back: Callable[[str], Awaitable[bool]] = never
) -> Pool:
    return Pool(list(urls), max_in_flight, wait_s, is_back)


def quarantine(endpoints: Pool, endpoint: Endpoint) -> None:
    for _ in range(pool.QUARANTINE_AFTER):
        endpoints.record(endpoint, "failed", 0.1)


def test_an_image_goes_to_the_endpoint_with_the_fewest_in_flight() -> None:
    async def story() -> None:
        endpoints = make_pool()
        one, other = await endpoints.take(), await endpoints.take()
        assert one is not other
        endpoints.give_back(other)
        assert await endpoints.take() is other

    asyncio.run(story())


def test_the_limit_is_kept_and_waiting_images_are_served_in_order() -> None:
    async def story() -> list[int]:
        endpoints, active, most_active, order = make_pool(max_in_flight=3), 0, 0, []

        async def image(k: int) -> None:
            nonlocal active, most_active
            async with Lease(endpoints):
                active += 1
                most_active = max(most_active, active)
                order.append(k)
                await asyncio.sleep(0)
                active -= 1

        await asyncio.gather(*map(image, range(20)))
        assert most_active == 3
        return order

    assert asyncio.run(story()) == list(range(20))


def test_an_endpoint_that_keeps_failing_is_quarantined_and_gets_no_images() -> None:
    async def story() -> None:
        endpoints = make_pool()
        broken = endpoints.endpoints[0]
        quarantine(endpoints, broken)
        taken = [await endpoints.take() for _ in range(8)]
        assert broken not in taken
        endpoints.close()

    asyncio.run(story())


def test_an_endpoint_that_answers_again_gets_images_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "FIRST_PROBE_S", 0.01)

    async def story() -> None:
        endpoints = make_pool("a", is_back=always)
        endpoints.endpoints[0].probe_s = 0.01
        quarantine(endpoints, endpoints.endpoints[0])
        assert await asyncio.wait_for(endpoints.take(), 5) is endpoints.endpoints[0]
        endpoints.close()

    asyncio.run(story())


def test_endpoints_come_and_go_while_images_wait() -> None:
    async def story() -> None:
        endpoints = make_pool("a", max_in_flight=2)
        one = await endpoints.take()
        waiting = asyncio.create_task(Lease(endpoints, at=one).__aenter__())
        blocked = [await endpoints.take()]
        await asyncio.sleep(0)
        endpoints.update(["b", "c"])
        assert [endpoint.url for endpoint in endpoints.endpoints] == ["b", "c"]
        endpoints.give_back(blocked.pop())
        lease = await waiting  # it asked for the endpoint that is gone
        assert lease.url in ("b", "c")
        endpoints.update([])  # nothing is known for a moment
        assert len(endpoints.endpoints) == 2
        endpoints.update(["c"])
        lease.release()
        endpoints.give_back(one)
        assert (await endpoints.take()).url == "c"
        assert endpoints.in_flight == 1

    asyncio.run(story())


def test_all_waiters_get_an_error_if_no_endpoint_comes_back_in_time() -> None:
    async def story() -> None:
        endpoints = make_pool(wait_s=0.1)
        for endpoint in endpoints.endpoints:
            quarantine(endpoints, endpoint)
        waiting = [asyncio.ensure_future(endpoints.take()) for _ in range(3)]
        for waiter in waiting:
            with pytest.raises(ServerError, match="did not answer for"):
                await waiter
        with pytest.raises(ServerError):
            await endpoints.take()
        endpoints.close()

    asyncio.run(story())


def test_a_retry_goes_to_another_endpoint_and_before_new_images() -> None:
    async def story() -> None:
        endpoints = make_pool(max_in_flight=2)
        async with Lease(endpoints) as lease:
            first = lease.url
            other = await endpoints.take()
            new = asyncio.ensure_future(endpoints.take())
            await asyncio.sleep(0)
            lease.release()
            await asyncio.sleep(0)
            assert new.done(), "another image gets the released lease"
            newer = asyncio.ensure_future(endpoints.take())
            retry = asyncio.ensure_future(lease.renew())
            await asyncio.sleep(0)
            endpoints.give_back(other)
            await asyncio.sleep(0)
            assert retry.done()
            assert not newer.done()
            assert lease.url != first
            newer.cancel()

    asyncio.run(story())


def test_no_lease_is_granted_after_the_end() -> None:
    async def story() -> None:
        endpoints = make_pool("a", max_in_flight=1)
        await endpoints.take()
        waiting = asyncio.ensure_future(endpoints.take())
        await asyncio.sleep(0)
        endpoints.end(Stopped())
        with pytest.raises(Stopped):
            await waiting

    asyncio.run(story())


def window(endpoint: Endpoint, max_in_flight: int, latency_s: float, overloaded: float = 0.0) -> int:
    """Record the replies of one window, a share of them 429, and return the new limit."""
    replies = max(pool.WINDOW, endpoint.limit)
    endpoint.in_flight = endpoint.limit
    for k in range(replies):
        endpoint.record("overloaded" if k < overloaded * replies else "answered", latency_s, max_in_flight)
    return endpoint.limit


def test_the_limit_shrinks_on_overload_and_grows_again_afterwards() -> None:
    endpoint = Endpoint("a", 100)
    assert window(endpoint, 100, 0.2, overloaded=0.5) == 70
    assert window(endpoint, 100, 0.2, overloaded=0.5) == 49
    for _ in range(20):
        window(endpoint, 100, 0.2)
    assert endpoint.limit == 100


def test_a_small_constant_share_of_429_does_not_lower_the_limit() -> None:
    endpoint = Endpoint("a", 64)
    for _ in range(50):
        window(endpoint, 64, 0.2, overloaded=0.05)
    assert endpoint.limit == 64


def test_the_limit_shrinks_while_latency_rises_until_that_is_usual() -> None:
    endpoint = Endpoint("a", 64)
    window(endpoint, 64, 0.1)
    window(endpoint, 64, 0.5)
    assert window(endpoint, 64, 0.5) == 64, "the latency of an idle server does not count as usual"
    assert window(endpoint, 64, 2.0) < 64
    limits = [window(endpoint, 64, 2.0) for _ in range(60)]
    assert min(limits) >= 1
    assert limits[-1] > min(limits), "constantly slow answers are not a sign of overload"


def test_the_limit_never_falls_below_one() -> None:
    endpoint = Endpoint("a", 64)
    for _ in range(50):
        window(endpoint, 64, 0.2, overloaded=1.0)
    assert endpoint.limit == 1


async def no_threads(url: str) -> bool:
    raise RuntimeError("can't start new thread")


def raising(error: Exception) -> Callable[[], None]:
    def check() -> None:
        raise error

    return check


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), MemoryError("no memory"), ServerError("replica 0 exited with code 1")]
)
def test_whatever_a_check_raises_ends_the_wait_with_its_words(error: Exception) -> None:
    async def story() -> None:
        endpoints = Pool(["a"], 8, 60, never, raising(error))
        quarantine(endpoints, endpoints.endpoints[0])
        with pytest.raises(ServerError) as ended:
            await asyncio.wait_for(endpoints.take(), 5)
        assert str(error) in str(ended.value)
        endpoints.close()

    asyncio.run(story())


def test_an_error_of_a_probe_ends_the_run_instead_of_losing_the_endpoint_for_ever() -> None:
    async def story() -> None:
        endpoints = make_pool("ab", max_in_flight=1, is_back=no_threads)
        lost = endpoints.endpoints[0]
        lost.probe_s = 0.01
        quarantine(endpoints, lost)
        await endpoints.take()
        with pytest.raises(ServerError, match="can't start new thread"):
            await asyncio.wait_for(endpoints.take(), 5)
        endpoints.close()

    asyncio.run(story())


def test_the_wait_for_an_endpoint_ends_in_time_even_if_a_probe_hangs() -> None:
    async def hanging(url: str) -> bool:
        await asyncio.sleep(600)
        return True

    async def story() -> None:
        endpoints = make_pool("a", wait_s=0.3, is_back=hanging)
        endpoints.endpoints[0].probe_s = 0.01
        quarantine(endpoints, endpoints.endpoints[0])
        with pytest.raises(ServerError, match="endpoint_wait_s"):
            await asyncio.wait_for(endpoints.take(), 5)
        endpoints.close()

    asyncio.run(story())
