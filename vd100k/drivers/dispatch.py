"""Slices are handed out to drivers, taken back from lost ones, and joined with the ledger of the run when asked."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor

from vd100k.cluster import session
from vd100k.cluster.placement import Asked, Placed
from vd100k.config.run import Run
from vd100k.config.stages import Generate
from vd100k.console import say
from vd100k.drivers.driver import Order, Report
from vd100k.drivers.slices import Slice, Slices
from vd100k.engines.serving.fleet import Fleet
from vd100k.errors import ServerError, Vd100kError
from vd100k.generation.interrupts import interruptible
from vd100k.generation.progress import Progress, ProgressLine
from vd100k.generation.survey import Outlook
from vd100k.ledger.rows import Ledger

POLL_S = 0.05  # a driver that is done waits so long for its next slice
MOST_LOSSES = 10  # of drivers with the same slice
ROUNDS = 4  # the smallest slice has so many images for each request in flight


class Hand:
    """A driver as this process sees it: what it was told to do, and its last report."""

    def __init__(self, actors: Placed, number: int) -> None:
        self.slice: Slice | None = None
        self.progress: Progress | None = None  # of its slice
        self.lost = False
        self.heard_at: float | None = None
        self._order = 0
        self._asked = Asked(actors.ray, actors.actors[number].obey, POLL_S)

    def give(self, slice: Slice) -> None:
        self.slice, self._order = slice, self._order + 1

    def take(self) -> Slice | None:
        """The slice that it has no longer."""
        had, self.slice, self.progress = self.slice, None, None
        return had

    def report(self, urls: list[str], stop: bool) -> Report | None:
        """What it says about its slice, if it has said something.

        Raises:
            RayError: it is lost.
        """
        report: Report | None = self._asked.answer(Order(self._order, self.slice, urls, stop))
        if report:
            self.heard_at, self.lost = time.monotonic(), False
        if not report or report.number != self._order or not self.slice:
            return None
        self.progress = report.progress
        return report


class Dispatch:
    """Keeps all drivers busy until no slice is left, or something ends the run; then the slices are joined."""

    def __init__(
        self,
        run: Run,
        settings: Generate,
        actors: Placed,
        ledger: Ledger,
        progress: Progress,
        servers: Fleet,
        outlook: Outlook,
    ) -> None:
        self._run, self._settings, self._ledger, self._progress = run, settings, ledger, progress
        self._actors, self._servers, self._outlook = actors, servers, outlook
        self._hands = [Hand(actors, number) for number in range(run.cluster.drivers)]
        self._slices = Slices(run.cluster.drivers, ROUNDS * settings.max_in_flight)
        self._over: list[Progress] = []  # of slices that are asked, and what was spent for those of lost drivers
        self._losses: dict[Slice, int] = {}
        self._joining: list[Future[int]] = []
        self._began = time.monotonic()
        self.end: BaseException | None = None

    async def run(self) -> None:
        """Work until the end; requests in flight are finished first if the run ends early."""
        with ThreadPoolExecutor(1) as joiner, ProgressLine(f"asking {self._run.served_name}", self._progress) as line:
            try:
                with interruptible(self._interrupt):
                    while not self._is_over():
                        self._turn(joiner)
                        line.show(self._outlook.expected)
                        await asyncio.sleep(POLL_S)
            except asyncio.CancelledError:
                pass  # a second Ctrl-C; the first one is the reason
            except ServerError as error:  # the head of the cluster is lost, and all drivers with it
                self.end = self.end or error
        for joined in self._joining:
            joined.result()

    def _turn(self, joiner: ThreadPoolExecutor) -> None:
        """Hear all drivers once, and look for reasons to end the run."""
        self._actors.head.require()
        for hand in self._hands:
            self._hear(hand, joiner)
        asking = [hand.progress for hand in self._hands if hand.progress]
        self._progress.add_up([*self._over, *asking])
        self._progress.in_flight = [sum(one.in_flight) for one in asking]
        if not self.end:
            self._look()

    def _hear(self, hand: Hand, joiner: ThreadPoolExecutor) -> None:
        try:
            report = hand.report(self._servers.urls, bool(self.end))
        except self._actors.ray.exceptions.RayError as error:
            self._lose(hand, error)
            return
        if report and report.state != "asking" and (slice := hand.take()):
            if report.state == "waiting":
                self._slices.give_back(slice)
                return
            self._over.append(report.progress)
            self._joining.append(joiner.submit(self._ledger.absorb, slice.path(self._ledger.path)))
            self.end = self.end or report.error
        waits = hand.heard_at and not hand.slice and not hand.lost  # one that has not started yet gets nothing
        if waits and not self.end and (new := self._slices.take(self._outlook.expected)):
            hand.give(new)

    def _lose(self, hand: Hand, error: Exception) -> None:
        """Another driver continues with the slice of a lost one: its rows are on the disk."""
        if hand.progress:
            spent = Progress(self._progress.unit_name)
            spent.usage = hand.progress.usage
            self._over.append(spent)
        if slice := hand.take():
            self._slices.give_back(slice)
            self._losses[slice] = self._losses.get(slice, 0) + 1
            if self._losses[slice] > MOST_LOSSES:
                self.end = ServerError(
                    f"{MOST_LOSSES} drivers were lost while they asked about {slice}; the last one: "
                    f"{session.cause(error)}\nTheir logs are in the run folder (driver-*.log). All answers are kept."
                )
        if not hand.lost:
            say("A driver was lost: another one continues with its images, and it is used again when it is back.")
        hand.lost = True

    def _look(self) -> None:
        """End the run if it cannot go on."""
        try:
            self._servers.check()
            if isinstance(self._outlook.error, Vd100kError):
                raise self._outlook.error
            self._progress.check_failure_rate(
                self._settings.max_failure_rate, self._run.key, self._ledger.failures_path
            )
            heard_at = max(hand.heard_at or self._began for hand in self._hands)
            if time.monotonic() - heard_at > self._run.cluster.wait_s:
                raise ServerError(
                    f"No driver has answered for {self._run.cluster.wait_s:.0f} s (cluster.wait_s): can the machines "
                    "of the cluster start vd100k, and have they a free CPU? All answers are kept."
                )
            for joined in self._joining:
                if joined.done():
                    joined.result()
        except Vd100kError as error:
            self.end = error

    def _is_over(self) -> bool:
        busy = any(hand.slice and (hand.heard_at or not self.end) for hand in self._hands)
        return not busy and (self.end is not None or not self._slices)

    def _interrupt(self, number: int) -> None:
        say(
            f"Stopping once the {sum(self._progress.in_flight)} requests in flight are finished. Press Ctrl-C again to "
            "stop at once."
        )
        self.end = self.end or KeyboardInterrupt(number)
