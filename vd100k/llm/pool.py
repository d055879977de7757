"""The endpoint that an image goes to, how many are in flight there, and what happens while it does not answer."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

from vd100k.console import say
from vd100k.errors import ServerError
from vd100k.llm.client import Outcome

QUARANTINE_AFTER = 8  # consecutive failures, of different images
FIRST_PROBE_S, MAX_PROBE_S = 0.5, 15.0
POLL_S = 0.2

# A window has as many replies as were in flight, so that every slot is represented; at least this many.
WINDOW = 32
OVERLOADED = 0.1  # the limit shrinks above this share of 429 and 503
SLOWED = 2.0  # the limit shrinks above this multiple of the usual latency
FORGET = 1.05  # the usual latency grows by this factor each window, because workloads change


@dataclass
class Window:
    """The replies since an endpoint's limit was last adapted."""

    answered: int = 0
    overloaded: int = 0
    latency_s: float = 0.0  # sum over the answered requests
    most_in_flight: int = 0


@dataclass(eq=False)
class Endpoint:
    """A server and its state; ``limit`` is the largest number of images in flight there."""

    url: str
    limit: int
    in_flight: int = 0
    quarantined: bool = False
    consecutive_failures: int = 0
    probe_s: float = FIRST_PROBE_S
    usual_s: float | None = None  # the latency to compare with, known after two windows
    window: Window = field(default_factory=Window)
    windows: int = 0

    def record(self, outcome: Outcome, latency_s: float, max_in_flight: int) -> None:
        """Take account of a request; ``limit`` never exceeds ``max_in_flight``."""
        window = self.window
        window.most_in_flight = max(window.most_in_flight, self.in_flight)
        self.consecutive_failures = self.consecutive_failures + 1 if outcome == "failed" else 0
        if outcome == "answered":
            window.answered += 1
            window.latency_s += latency_s
            self.probe_s = FIRST_PROBE_S
        elif outcome == "overloaded":
            window.overloaded += 1
        if window.answered + window.overloaded >= max(WINDOW, window.most_in_flight):
            self._adapt(max_in_flight)
            self.window = Window()

    def _adapt(self, max_in_flight: int) -> None:
        """Lower the limit if the endpoint is overloaded or slows down, else raise it.

        A fixed share of 429 is tolerated, unlike losses in TCP's congestion control: at a constant 5 % of
        429, that would leave five requests in flight no matter how many the server can process.
        """
        window = self.window
        latency = window.latency_s / window.answered if window.answered else None
        if window.overloaded > OVERLOADED * (window.answered + window.overloaded):
            self.limit = max(1, min(self.limit, window.most_in_flight) * 7 // 10)
        elif latency and self.usual_s and latency > SLOWED * self.usual_s:
            self.limit = max(1, min(self.limit, window.most_in_flight) * 85 // 100)
        else:
            self.limit = min(max_in_flight, self.limit + max(1, max_in_flight // 16))
        # The first window does not count: the server was idle before it.
        if latency and self.windows:
            self.usual_s = min((self.usual_s or latency) * FORGET, latency)
        self.windows += 1


class Stopped(Exception):
    """The run is ending, so no new request may start."""


@dataclass(slots=True)
class Waiter:
    """A request for a lease that must wait; ``avoid`` and ``at`` as in ``Pool.take``."""

    endpoint: asyncio.Future[Endpoint]
    avoid: Endpoint | None
    at: Endpoint | None


class Lease:
    """The right to have one image in flight at an endpoint of the pool, while the ``with`` block lasts."""

    def __init__(self, pool: Pool, at: Endpoint | None = None) -> None:
        self._pool, self._at = pool, at
        self._endpoint: Endpoint | None = None
        self._last: Endpoint | None = None  # the endpoint of a released lease

    async def __aenter__(self) -> Self:
        self._endpoint = await self._pool.take(at=self._at)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()

    @property
    def url(self) -> str:
        assert self._endpoint
        return self._endpoint.url

    def record(self, outcome: Outcome, latency_s: float) -> None:
        """Tell the pool the outcome of a request at this endpoint."""
        assert self._endpoint
        self._pool.record(self._endpoint, outcome, latency_s)

    def release(self) -> None:
        """Give the endpoint back early; calling it twice is fine."""
        if self._endpoint:
            self._last, self._endpoint = self._endpoint, None
            self._pool.give_back(self._last)

    async def renew(self) -> None:
        """After ``release``: lease an endpoint again, if possible another one."""
        self._endpoint = await self._pool.take(avoid=self._last)

    def sibling(self) -> Lease:
        """Another lease of the same endpoint, or of any endpoint if that one is quarantined."""
        return Lease(self._pool, self._endpoint or self._last)


class Pool:
    """Equivalent endpoints that share the images: each image goes to the endpoint with the fewest in flight.

    An image stays with its endpoint, which then has it in its caches (``benchmarks/affinity.py``).

    An endpoint that fails ``QUARANTINE_AFTER`` times in a row is quarantined: its images go to the
    others, and ``is_back`` probes it at growing intervals. If all are quarantined, images wait up to
    ``wait_s`` for one, then the run ends. ``check`` may end it earlier by raising an error.
    """

    def __init__(
        self,
        urls: list[str],
        max_in_flight: int,
        wait_s: float,
        is_back: Callable[[str], Awaitable[bool]],
        check: Callable[[], None] = lambda: None,
        stage_key: str = "stage",
    ) -> None:
        self.endpoints = [Endpoint(url, max_in_flight) for url in urls]
        self._max_in_flight, self._wait_s, self._is_back, self._check = max_in_flight, wait_s, is_back, check
        self._stage_key = stage_key
        self._queue: deque[Waiter] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._end: Exception | None = None
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """The number of leases, over all endpoints."""
        return self._in_flight

    async def take(self, avoid: Endpoint | None = None, at: Endpoint | None = None) -> Endpoint:
        """An endpoint for one image, until ``give_back``: exactly ``at``, or if possible not ``avoid``.

        Raises:
            ServerError: no endpoint has answered for ``wait_s``.
            Stopped: after ``end``.
        """
        if self._end:
            raise self._end
        if not self._queue and self._in_flight < self._max_in_flight and (endpoint := self._choose(avoid, at)):
            return self._taken(endpoint)
        waiter = Waiter(asyncio.get_running_loop().create_future(), avoid, at)
        # An image that was started goes first: it is in memory here, and in the caches there.
        self._queue.appendleft(waiter) if avoid or at else self._queue.append(waiter)
        self._serve_waiters()
        try:
            return await waiter.endpoint
        except asyncio.CancelledError:
            if waiter.endpoint.done() and not waiter.endpoint.cancelled() and not waiter.endpoint.exception():
                self.give_back(waiter.endpoint.result())
            raise

    def give_back(self, endpoint: Endpoint) -> None:
        """End what ``take`` began."""
        endpoint.in_flight -= 1
        self._in_flight -= 1
        self._serve_waiters()

    def record(self, endpoint: Endpoint, outcome: Outcome, latency_s: float) -> None:
        """Take account of a request, and quarantine its endpoint if it keeps failing."""
        endpoint.record(outcome, latency_s, self._max_in_flight)
        if endpoint.consecutive_failures >= QUARANTINE_AFTER and not endpoint.quarantined:
            endpoint.quarantined = True
            self._start(self._probe(endpoint))
            if all(other.quarantined for other in self.endpoints):
                self._start(self._wait_for_any())
            elif len(self.endpoints) > 1:
                say(f"{endpoint.url} does not answer and is quarantined; its images go to the others.")

    def update(self, urls: list[str]) -> None:
        """Use these endpoints from now on; those that stay keep their images, and what they are known to take."""
        known = {endpoint.url: endpoint for endpoint in self.endpoints}
        if not urls or known.keys() == set(urls):
            return
        for url in known.keys() - set(urls):
            known[url].quarantined = True  # an image that it has been asked about goes to another one
            say(f"{url} is not used any more.")
        for url in set(urls) - known.keys():
            say(f"{url} is used from now on.")
        self.endpoints = [known.get(url) or Endpoint(url, self._max_in_flight) for url in urls]
        self._serve_waiters()

    def end(self, error: Exception) -> None:
        """Grant no more leases: whatever waits for one, or asks for one later, gets the error."""
        self._end = self._end or error
        for waiter in self._queue:
            if not waiter.endpoint.done():
                waiter.endpoint.set_exception(error)
        self._queue.clear()

    def close(self) -> None:
        """Stop all probes."""
        for task in self._tasks:
            task.cancel()

    def _choose(self, avoid: Endpoint | None, at: Endpoint | None) -> Endpoint | None:
        free = [e for e in self.endpoints if not e.quarantined and e.in_flight < e.limit]
        if at and not at.quarantined:
            return at if at in free else None
        return min(free, key=lambda e: (e is avoid, e.in_flight), default=None)

    def _taken(self, endpoint: Endpoint) -> Endpoint:
        endpoint.in_flight += 1
        self._in_flight += 1
        return endpoint

    def _serve_waiters(self) -> None:
        """Give free endpoints to the waiters that can use them, in their order."""
        passed_over: list[Waiter] = []
        while self._queue and self._in_flight < self._max_in_flight:
            waiter = self._queue.popleft()
            if waiter.endpoint.done():
                continue
            if endpoint := self._choose(waiter.avoid, waiter.at):
                waiter.endpoint.set_result(self._taken(endpoint))
            else:
                passed_over.append(waiter)
                if not waiter.at:  # no endpoint has room, so the waiters behind it need not be tried
                    break
        self._queue.extendleft(reversed(passed_over))

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """End the run if a task ended with an error: nothing else awaits it, and the images would wait for ever."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            told = f"Waiting for the servers failed: {type(error).__name__}: {error}. All earlier answers are kept."
            self.end(error if isinstance(error, ServerError) else ServerError(told))

    async def _probe(self, endpoint: Endpoint) -> None:
        """Wait until a quarantined endpoint answers again."""
        while True:
            await asyncio.sleep(endpoint.probe_s)
            endpoint.probe_s = min(2 * endpoint.probe_s, MAX_PROBE_S)
            if endpoint not in self.endpoints:
                return
            if await self._is_back(endpoint.url):
                break
        endpoint.quarantined, endpoint.consecutive_failures = False, 0
        say(f"{endpoint.url} answers again.")
        self._serve_waiters()

    async def _wait_for_any(self) -> None:
        """End the run unless an endpoint comes back in time."""
        until = time.monotonic() + self._wait_s
        limit = f"{self._wait_s:.0f} s ({self._stage_key}.endpoint_wait_s)"
        say(f"No endpoint answers: waiting up to {limit} for one to come back.")
        while all(endpoint.quarantined for endpoint in self.endpoints):
            self._check()
            if time.monotonic() >= until:
                urls = ", ".join(endpoint.url for endpoint in self.endpoints)
                raise ServerError(
                    f"{urls} did not answer for {limit}. Is the server up? "
                    "All earlier answers are kept: run the same command again."
                )
            await asyncio.sleep(POLL_S)
