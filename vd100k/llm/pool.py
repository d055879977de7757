"""Which server an image goes to, how many at a time, and what happens while one does not answer."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, Self

from vd100k.console import say
from vd100k.errors import ServerError

ASIDE_AFTER = 8  # failures in a row, of different images
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
POLL_S = 0.2

# A window is as many replies as were in flight, so that each slot has had its turn; at least so many.
WINDOW = 32
OVERLOADED = 0.1  # share of 429 and 503 above which fewer are sent
SLOWED = 2.0  # times the shortest latency, of windows, above which fewer are sent
FORGET = 1.05  # the shortest latency grows by this with each window: work changes, and so does what is usual

Outcome = Literal["answered", "overloaded", "broken", "neither"]


@dataclass
class Window:
    """What came back since an endpoint's limit was last looked at."""

    answered: int = 0
    overloaded: int = 0
    latency_s: float = 0.0  # of the answered, together
    most_in_flight: int = 0


@dataclass(eq=False)
class Endpoint:
    """A server, and how it is doing; ``limit`` is how many images are with it at most."""

    url: str
    limit: int
    in_flight: int = 0
    aside: bool = False
    broken: int = 0  # failures in a row
    pause_s: float = FIRST_PAUSE_S
    usual_s: float | None = None  # latency, once a window has shown it
    window: Window = field(default_factory=Window)
    windows: int = 0

    def note(self, outcome: Outcome, latency_s: float, most: int) -> None:
        """Learn from a reply, or from its absence; ``limit`` never grows above ``most``."""
        window = self.window
        window.most_in_flight = max(window.most_in_flight, self.in_flight)
        self.broken = self.broken + 1 if outcome == "broken" else 0
        if outcome == "answered":
            window.answered += 1
            window.latency_s += latency_s
            self.pause_s = FIRST_PAUSE_S
        elif outcome == "overloaded":
            window.overloaded += 1
        if window.answered + window.overloaded >= max(WINDOW, window.most_in_flight):
            self._adapt(most)
            self.window = Window()

    def _adapt(self, most: int) -> None:
        """Fewer at once when it says so or slows down, more again when it keeps up.

        A fixed share is what 429 may come to, not none as in TCP's congestion control: at a constant
        5 % of them that would leave five in flight however many the server could take.
        """
        window = self.window
        latency = window.latency_s / window.answered if window.answered else None
        if window.overloaded > OVERLOADED * (window.answered + window.overloaded):
            self.limit = max(1, min(self.limit, window.most_in_flight) * 7 // 10)
        elif latency and self.usual_s and latency > SLOWED * self.usual_s:
            self.limit = max(1, min(self.limit, window.most_in_flight) * 85 // 100)
        else:
            self.limit = min(most, self.limit + max(1, most // 16))
        # Not from the first: its replies come from a server that was idle.
        if latency and self.windows:
            self.usual_s = min((self.usual_s or latency) * FORGET, latency)
        self.windows += 1


class Stopped(Exception):
    """Nothing more is to be begun."""


@dataclass(slots=True)
class Wish:
    """Who waits for a place, and which."""

    place: asyncio.Future[Endpoint]
    avoid: Endpoint | None
    at: Endpoint | None


class Place:
    """A place at one of the pool's endpoints, for as long as the block lasts."""

    def __init__(self, pool: Pool, at: Endpoint | None = None) -> None:
        self._pool, self._at = pool, at
        self._endpoint: Endpoint | None = None

    async def __aenter__(self) -> Self:
        self._endpoint = await self._pool.take(at=self._at)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    @property
    def url(self) -> str:
        assert self._endpoint
        return self._endpoint.url

    def note(self, outcome: Outcome, latency_s: float) -> None:
        """Tell what became of a request there."""
        assert self._endpoint
        self._pool.note(self._endpoint, outcome, latency_s)

    def leave(self) -> None:
        if self._endpoint:
            self._left, self._endpoint = self._endpoint, None
            self._pool.give_back(self._left)

    async def take_another(self) -> None:
        """After ``leave``: a place anywhere, at another endpoint if there is one."""
        self._endpoint = await self._pool.take(avoid=self._left)

    def another(self) -> Place:
        """A further place at the same endpoint, anywhere if that is set aside."""
        return Place(self._pool, self._endpoint or self._left)


class Pool:
    """Equal endpoints that share the images: each goes to the one with the fewest, ``most`` in all at a time.

    An image stays with its endpoint, which then knows it from its caches (``benchmarks/affinity.py``).

    An endpoint that breaks ``ASIDE_AFTER`` times in a row is set aside and ``is_back`` is asked about
    it at growing intervals; the images go to the others. When all are aside, images wait ``wait_s``
    for one, then the run ends. ``hopeless`` may end it earlier, by raising.
    """

    def __init__(
        self,
        urls: list[str],
        most: int,
        wait_s: float,
        is_back: Callable[[str], Awaitable[bool]],
        hopeless: Callable[[], None] = lambda: None,
    ) -> None:
        self.endpoints = [Endpoint(url, most) for url in urls]
        self._most, self._wait_s, self._is_back, self._hopeless = most, wait_s, is_back, hopeless
        self._in_flight = 0
        self._queue: deque[Wish] = deque()
        self._watches: set[asyncio.Task[None]] = set()
        self._end: Exception | None = None

    async def take(self, avoid: Endpoint | None = None, at: Endpoint | None = None) -> Endpoint:
        """A place until ``give_back``: ``at`` that endpoint, or at another than the one to ``avoid`` if there is one.

        Raises:
            ServerError: none has answered for ``wait_s``.
            Stopped: after ``end``.
        """
        if self._end:
            raise self._end
        if not self._queue and self._in_flight < self._most and (endpoint := self._choose(avoid, at)):
            return self._taken(endpoint)
        wish = Wish(asyncio.get_running_loop().create_future(), avoid, at)
        # What was begun goes first: its image is in memory, here and there.
        self._queue.appendleft(wish) if avoid or at else self._queue.append(wish)
        self._hand_out()
        try:
            return await wish.place
        except asyncio.CancelledError:
            if wish.place.done() and not wish.place.cancelled() and not wish.place.exception():
                self.give_back(wish.place.result())
            raise

    def give_back(self, endpoint: Endpoint) -> None:
        endpoint.in_flight -= 1
        self._in_flight -= 1
        self._hand_out()

    def note(self, endpoint: Endpoint, outcome: Outcome, latency_s: float) -> None:
        """Tell what became of a request."""
        endpoint.note(outcome, latency_s, self._most)
        if endpoint.broken >= ASIDE_AFTER and not endpoint.aside:
            endpoint.aside = True
            self._watch(self._revive(endpoint))
            if all(other.aside for other in self.endpoints):
                self._watch(self._give_up())
            elif len(self.endpoints) > 1:
                say(f"{endpoint.url} does not answer and is set aside; its images go to the others.")

    def end(self, error: Exception) -> None:
        """Give out no more places: whoever waits for one, or comes to take one, gets the error."""
        self._end = self._end or error
        for wish in self._queue:
            if not wish.place.done():
                wish.place.set_exception(error)
        self._queue.clear()

    def close(self) -> None:
        for watch in self._watches:
            watch.cancel()

    def _choose(self, avoid: Endpoint | None, at: Endpoint | None) -> Endpoint | None:
        free = [e for e in self.endpoints if not e.aside and e.in_flight < e.limit]
        if at and not at.aside:
            return at if at in free else None
        return min(free, key=lambda e: (e is avoid, e.in_flight), default=None)

    def _taken(self, endpoint: Endpoint) -> Endpoint:
        endpoint.in_flight += 1
        self._in_flight += 1
        return endpoint

    def _hand_out(self) -> None:
        """Give the places that are free to those who can use them, in their order."""
        passed_over: list[Wish] = []
        while self._queue and self._in_flight < self._most:
            wish = self._queue.popleft()
            if wish.place.done():
                continue
            endpoint = self._choose(wish.avoid, wish.at)
            if endpoint:
                wish.place.set_result(self._taken(endpoint))
            else:
                passed_over.append(wish)
                if not wish.at:  # if there is room nowhere, those behind need not be looked at
                    break
        self._queue.extendleft(reversed(passed_over))

    def _watch(self, what: Awaitable[None]) -> None:
        watch = asyncio.ensure_future(what)
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def _revive(self, endpoint: Endpoint) -> None:
        while True:
            await asyncio.sleep(endpoint.pause_s)
            endpoint.pause_s = min(2 * endpoint.pause_s, LONGEST_PAUSE_S)
            if await self._is_back(endpoint.url):
                break
        endpoint.aside, endpoint.broken = False, 0
        say(f"{endpoint.url} answers again.")
        self._hand_out()

    async def _give_up(self) -> None:
        """End the run unless an endpoint comes back in time."""
        until = time.monotonic() + self._wait_s
        say(f"No endpoint answers: waiting up to {self._wait_s:.0f} s (endpoint_wait_s) for one to come back.")
        while all(endpoint.aside for endpoint in self.endpoints):
            try:
                self._hopeless()
            except ServerError as error:
                return self.end(error)
            if time.monotonic() >= until:
                urls = ", ".join(endpoint.url for endpoint in self.endpoints)
                return self.end(
                    ServerError(
                        f"{urls} did not answer for {self._wait_s:.0f} s (endpoint_wait_s). Is the server up? "
                        "What was answered is kept: run the same command again."
                    )
                )
            await asyncio.sleep(POLL_S)
        return None
