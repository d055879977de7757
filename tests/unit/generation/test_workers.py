"""Workers: as many as may be in flight, replaced while they wait for a retry, and stopped at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.generation.workers import Workers
from vd100k.llm.pool import Lease, Pool, Stopped

LONG_S = 3600.0


async def never(url: str) -> bool:
    return False


async def no_ticks() -> None:
    await asyncio.sleep(LONG_S)


def run(workers: Workers) -> Awaitable[None]:
    return asyncio.wait_for(workers.run(no_ticks()), 10)


@given(st.integers(1, 6), st.integers(0, 40))
def test_all_work_is_done_by_no_more_workers_than_allowed(size: int, count: int) -> None:
    async def story() -> None:
        open_items, active, most_active = count, 0, 0

        async def work() -> bool:
            nonlocal open_items, active, most_active
            if not open_items:
                return False
            open_items -= 1
            active += 1
            most_active = max(most_active, active)
            await asyncio.sleep(0)
            active -= 1
            return True

        await run(Workers(size, work))
        assert open_items == 0
        assert most_active == min(size, count)

    asyncio.run(story())


def retrying(items: list[str], pool: Pool, log: list[str]) -> Callable[[], Awaitable[bool]]:
    """A ``work`` function that takes the next item; the item ``retry`` fails once and waits for its retry."""

    async def work() -> bool:
        async with Lease(pool) as lease:
            if not items:
                return False
            item = items.pop(0)
            log.append(item)
            if item == "retry":
                await workers.wait_for_retry(lease, 0.05)
                log.append("retried")
            await asyncio.sleep(0)
        return True

    workers = Workers(1, work)
    work.workers = workers  # type: ignore[attr-defined]
    return work


def test_a_worker_that_waits_for_a_retry_is_replaced_meanwhile() -> None:
    async def story() -> list[str]:
        log: list[str] = []
        pool = Pool(["a"], 1, 60, never)
        workers = retrying(["retry", "other", "another"], pool, log).workers  # type: ignore[attr-defined]
        await run(workers)
        assert pool.in_flight == 0
        return log

    assert asyncio.run(story()) == ["retry", "other", "another", "retried"]


@given(st.integers(1, 4), st.lists(st.booleans(), max_size=30))
def test_retries_never_put_more_in_flight_than_allowed(size: int, retries: list[bool]) -> None:
    async def story() -> None:
        pool, items, finished, most = Pool(["a", "b"], size, 60, never), list(retries), 0, 0

        async def work() -> bool:
            nonlocal finished, most
            async with Lease(pool) as lease:
                if not items:
                    return False
                if items.pop():
                    await workers.wait_for_retry(lease, 0)
                most = max(most, pool.in_flight)
                await asyncio.sleep(0)
                finished += 1
            return True

        workers = Workers(size, work)
        await run(workers)
        assert finished == len(retries)
        assert most <= size
        assert pool.in_flight == 0

    asyncio.run(story())


def test_stopping_ends_the_wait_for_a_retry() -> None:
    async def story() -> list[str]:
        log: list[str] = []
        pool = Pool(["a"], 1, 60, never)

        async def work() -> bool:
            async with Lease(pool) as lease:
                log.append("work")
                if len(log) > 1:
                    workers.stop(Stopped())
                    pool.end(Stopped())
                    return True
                try:
                    await workers.wait_for_retry(lease, LONG_S)
                except Stopped:
                    log.append("stopped")
                    raise
            return True

        workers = Workers(1, work)
        await run(workers)
        return log

    assert asyncio.run(story()) == ["work", "work", "stopped"]


def test_an_error_in_one_worker_ends_the_run() -> None:
    async def story() -> None:
        async def work() -> bool:
            raise ZeroDivisionError

        await run(Workers(3, work))

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(story())
    assert caught.group_contains(ZeroDivisionError)


def test_an_error_in_the_ticker_ends_the_run() -> None:
    async def story() -> None:
        async def work() -> bool:
            await asyncio.sleep(LONG_S)
            return True

        async def ticker() -> None:
            raise ZeroDivisionError

        await asyncio.wait_for(Workers(3, work).run(ticker()), 10)

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(story())
    assert caught.group_contains(ZeroDivisionError)
