"""How far a generation is, and the line that says so."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from vd100k.config.run import Price
from vd100k.console import in_terminal, progress, say
from vd100k.llm.client import Spent
from vd100k.llm.pool import Endpoint

if TYPE_CHECKING:
    from rich.progress import Progress

MILLION = 1_000_000
RATE_OVER_S = 30.0
# Between two lines where there is no terminal: this share of the rows, or so long.
LOG_EVERY, LOG_EVERY_S = 0.1, 60.0


@dataclass
class Counts:
    """How many images (or questions about images) there were, and what became of them; ``cost`` in USD."""

    images: int = 0
    rows: int = 0
    reused: int = 0
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None

    def spend(self, spent: Spent, price: Price | None) -> None:
        """Take over what was sent and got so far."""
        self.requests = spent.requests
        self.prompt_tokens, self.completion_tokens = spent.prompt_tokens, spent.completion_tokens
        if price:
            cost = self.prompt_tokens * price.prompt + self.completion_tokens * price.completion
            self.cost = round(cost / MILLION, 6)

    def spent(self) -> str:
        """Tokens and cost so far, in words."""
        cost = "" if self.cost is None else f", ${self.cost:,.4f}"
        return f"{_short(self.prompt_tokens)} tokens in, {_short(self.completion_tokens)} out{cost}"


class Line:
    """One line that moves in a terminal; in a log, one line from time to time."""

    def __init__(self, title: str, things: str, total: int | None) -> None:
        self._bar: Progress | None = progress() if in_terminal() else None
        self._task = self._bar.add_task(title, total=total, note="") if self._bar else None
        self._things = things
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._said_at, self._said = time.monotonic(), 0

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, counts: Counts, total: int | None, endpoints: Iterable[Endpoint]) -> None:
        """Where it stands now, of ``total`` as far as that is known."""
        done, now = counts.rows + counts.failed, time.monotonic()
        fresh = done - counts.reused
        self._samples.append((now, fresh))
        while now - self._samples[0][0] > RATE_OVER_S:
            self._samples.popleft()
        (then, before) = self._samples[0]
        rate = (fresh - before) / (now - then) if now > then else 0.0
        busy = "+".join(str(endpoint.in_flight) for endpoint in endpoints)
        note = f"{_rate(rate)}, {counts.spent()}, {counts.failed} failed, in flight {busy}"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, note=note)
        elif self._is_time(fresh, total, now):
            left = f", {_duration((total - done) / rate)} left" if total and rate else ""
            of = f"/{total:,}" if total else ""
            say(f"  {done:,}{of} {self._things}{left}, {note}")

    def _is_time(self, fresh: int, total: int | None, now: float) -> bool:
        many = total is not None and fresh - self._said >= max(1, LOG_EVERY * total)
        if fresh > self._said and (many or now - self._said_at > LOG_EVERY_S):
            self._said_at, self._said = now, fresh
            return True
        return False


def _rate(rate: float) -> str:
    return f"{rate:,.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def _short(count: int) -> str:
    """1234567 as 1.23M."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= 10 * size or (unit != "k" and count >= size):
            return f"{count / size:.3g}{unit}"
    return str(count)
