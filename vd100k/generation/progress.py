"""How far a generation is: the counters of a run, and the line that shows them."""

from __future__ import annotations

import copy
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vd100k.config.run import Price
from vd100k.console import in_terminal, progress_bar, say
from vd100k.errors import DataError
from vd100k.images.ignored import Ignored
from vd100k.llm.client import Usage
from vd100k.pages.pace import Pace

if TYPE_CHECKING:
    from rich.progress import Progress as ProgressBar

MILLION = 1_000_000
MIN_FOR_RATE = 50  # images or questions before the share of failures counts
RATE_OVER_S = 30.0
SPENT = ("requests", "reused", "failed", "prompt_tokens", "completion_tokens", "cost")
# Without a terminal, a line is printed after this share of the rows, or after this time.
LOG_EVERY, LOG_EVERY_S = 0.1, 60.0


class Progress:
    """The only counters of a generation; ``unit_name`` says what is counted: images, or questions.

    ``total``: seen so far, ``reused``: answered by an earlier run, ``skipped``: not asked (failed
    permanently in an earlier run, or not a usable image), ``saved``: rows of this run that are safe
    on the disk, ``usage``: requests and tokens, ``ignored``: files that are not images, ``pace``: over time.
    ``resumed``: those of ``reused`` that a driver of the same run made before it was lost.
    ``total`` is ``rows`` + ``failed`` + ``open``.
    """

    def __init__(self, unit_name: str, price: Price | None = None) -> None:
        self.unit_name = unit_name
        self.total = self.reused = self.resumed = self.skipped = self.answered = self.saved = 0
        self.in_flight: list[int] = []  # at each endpoint
        self.usage = Usage()
        self.ignored = Ignored()
        self.pace = Pace()
        self._price = price
        self._failures: Counter[str] = Counter()  # of this run, by reason
        self._first_detail: dict[str, str] = {}

    @property
    def rows(self) -> int:
        """Answers that are safe, of this run and earlier ones."""
        return self.reused + self.saved

    @property
    def failed(self) -> int:
        """What has no answer, in this run and earlier ones."""
        return self.skipped + self._failures.total()

    @property
    def open(self) -> int:
        """What was seen and has neither an answer nor a failure; 0 after a run that was not interrupted."""
        return self.total - self.rows - self.failed

    @property
    def cost(self) -> float | None:
        """USD spent by this run; None if the price is not known."""
        if self._price is None:
            return None
        usage = self.usage
        dollars = usage.prompt_tokens * self._price.prompt + usage.completion_tokens * self._price.completion
        return round(dollars / MILLION, 6)

    def snapshot(self) -> Progress:
        """A copy of the counters, without their pace, that another process may get while this one counts on."""
        taken = copy.copy(self)
        taken.usage, taken.ignored = copy.copy(self.usage), Ignored(dict(self.ignored))
        taken._failures, taken._first_detail = Counter(dict(self._failures)), dict(self._first_detail)
        taken.pace = Pace()
        return taken

    def add_up(self, parts: Sequence[Progress]) -> None:
        """Set all counters to the sums of those of several drivers."""
        self.total = sum(part.total for part in parts)
        self.reused = sum(part.reused - part.resumed for part in parts)
        self.saved = sum(part.saved + part.resumed for part in parts)
        self.skipped = sum(part.skipped for part in parts)
        self.answered = sum(part.answered for part in parts)
        self.usage = Usage(
            sum(part.usage.requests for part in parts),
            sum(part.usage.prompt_tokens for part in parts),
            sum(part.usage.completion_tokens for part in parts),
        )
        # All drivers see the same files, some of them not all yet.
        self.ignored = max((part.ignored for part in parts), key=Ignored.total, default=self.ignored)
        self._failures = sum((part._failures for part in parts), Counter())
        self._first_detail = {name: text for part in parts for name, text in part._first_detail.items()}

    def fail(self, reason: str, detail: str) -> None:
        """Count a failure of this run."""
        self._failures[reason] += 1
        self._first_detail.setdefault(reason, detail)

    def check_failure_rate(self, limit: float, stage_key: str, failures: Path) -> None:
        """Raise DataError if a larger share than ``limit`` failed; ``failures`` is the file with the reasons."""
        failed = self._failures.total()
        tried = failed + self.answered
        if tried >= MIN_FOR_RATE and failed > limit * tried:
            reason, times = self._failures.most_common(1)[0]
            raise DataError(
                f"Stopped: {failed} of {tried} {self.unit_name} failed, more than "
                f"{stage_key}.max_failure_rate={limit:g} allows.\n"
                f"The most common reason ({times} times) is {reason}: {self._first_detail[reason]}\n"
                f"All reasons are in {failures}. All answers are kept: remove the cause and run the same command again."
            )

    def counts(self) -> dict[str, Any]:
        """The counters as ``summary.json`` has them; ``cost`` in USD."""
        return {
            "images": self.total,
            "rows": self.rows,
            "reused": self.reused,
            "requests": self.usage.requests,
            "failed": self.failed,
            "open": self.open,
            "ignored": self.ignored.total(),
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
            "cost": self.cost,
        }

    def add_to(self, counts: dict[str, Any], *more: str) -> None:
        """Add what was spent, and ``more`` of the counters, to the counts of a stage that asks several models."""
        own = self.counts()
        for key in (*more, *SPENT):
            if own[key] is not None:
                counts[key] = counts.get(key, 0) + own[key]


class ProgressLine:
    """A moving line in a terminal; in a log, a line from time to time."""

    def __init__(self, title: str, progress: Progress) -> None:
        self._progress = progress
        self._bar: ProgressBar | None = progress_bar() if in_terminal() else None
        self._task = self._bar.add_task(title, total=None, note="") if self._bar else None
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._said_at, self._said = time.monotonic(), 0
        progress.pace.add(time.monotonic(), progress.usage.requests, progress.cost)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, expected: int | None) -> None:
        """Show the counters; ``expected`` is the number of rows at the end, as far as it is known."""
        progress, now = self._progress, time.monotonic()
        progress.pace.add(now, progress.usage.requests, progress.cost)
        done = progress.rows + progress.failed
        expected = expected and max(expected, progress.total)  # it was estimated
        new = done - progress.reused
        rate = self._rate(new, now)
        in_flight = "+".join(map(str, progress.in_flight))
        note = f"{_rate_text(rate)}, {_usage(progress)}, {progress.failed} failed, in flight {in_flight}"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, total=expected, note=note)
        elif self._is_time(new, expected, now):
            left = f", {_duration((expected - done) / rate)} left" if expected and rate else ""
            of = f"/{expected:,}" if expected else ""
            say(f"  {done:,}{of} {progress.unit_name}{left}, {note}")

    def _rate(self, new: int, now: float) -> float:
        """Rows a second, over the last half minute."""
        self._samples.append((now, new))
        while now - self._samples[0][0] > RATE_OVER_S:
            self._samples.popleft()
        then, before = self._samples[0]
        return (new - before) / (now - then) if now > then else 0.0

    def _is_time(self, new: int, expected: int | None, now: float) -> bool:
        many = expected is not None and new - self._said >= max(1, LOG_EVERY * expected)
        if new > self._said and (many or now - self._said_at > LOG_EVERY_S):
            self._said_at, self._said = now, new
            return True
        return False


def _usage(progress: Progress) -> str:
    """Tokens, and the cost if it is known."""
    usage, cost = progress.usage, "" if progress.cost is None else f", ${progress.cost:,.4f}"
    return f"{_short(usage.prompt_tokens)} tokens in, {_short(usage.completion_tokens)} out{cost}"


def _rate_text(rate: float) -> str:
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
