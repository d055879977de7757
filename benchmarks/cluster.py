"""How far a generation scales on paper: up to 1,000 machines and 1,000,000,000 images, and what becomes the limit.

    python -m benchmarks.cluster                                      # the table in docs/clusters.md
    python -m benchmarks.cluster --images 1e8 --nodes 64 --drivers 8  # one line of it
    python -m benchmarks.cluster --latency 0.2 --in-flight 64         # 1, 2 and 4 drivers on one machine

A simulation by events: a slice of the images is done, a machine is lost, a machine is back. Between two events, each
driver asks at a constant rate: as fast as its processor lets it, and no faster than its fair share of what the GPUs and
the shared disk give. Slices are cut and handed out by the rules of the real dispatcher (``vd100k.drivers.slices``).
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vd100k.drivers.dispatch import ROUNDS
from vd100k.drivers.slices import Slice, Slices

# Measured by this project, on two cores.
REQUEST_S = 0.00044  # processor time of a driver for a request (docs/generating.md, Speed, 256 in flight)
NAME_S = 2.6e-6  # and for each name of the whole list, which it walks once a slice (vd100k/drivers/slices.py)
JOIN_S = 4.2e-6  # for a row that is read from a slice and written to the rows of the run (860 bytes)
KEY_S = {6: 0.55e-6, 7: 0.61e-6, 8: 1.35e-6, 9: 13.3e-6}  # for its key, by the digits of the rows that are known
CALLS_S = 2  # reports of a driver a second (vd100k/drivers/driver.py)
# Ray's own figures: release/release_logs/2.10.0/microbenchmark.json (1_n_actor_calls_async).
RAY_CALLS = 8830
# Meta's Llama 3 training (arXiv:2407.21783, section 3.3.4): 419 unexpected interruptions of 2,048 machines of eight
# H100 in 54 days.
NODE_DAYS = 54 * 2048 / 419
# Assumptions: change them to your own.
GPUS, GPU_RATE = 8, 5.0  # a machine, and requests a second that a GPU answers (7 billion parameters, 150 tokens)
LATENCY_S = 6.0  # of a request, so 240 are in flight for each machine
DISK_BYTES, IMAGE_BYTES = 1.25e9, 300e3  # of a shared folder behind 10 Gbit/s, a second; and of a photo
BACK_S = 3600.0  # from the loss of a machine until its GPUs answer again
DAY = 86400.0
GPUS_LIMIT, NEARLY = "GPUs", 0.95
HEAD = ["images", "machines", "drivers", "hours", "of the GPUs", "limit", "lost", "asked again", "joining"]
HEAD += ["calls", "head"]


@dataclass(frozen=True)
class Result:
    """``seconds`` of a run and of one that only the GPUs limit, and how long what was the limit.

    ``lost`` machines made it ask ``again`` about so many images, and rows were joined for ``joining_s``.
    """

    seconds: float
    ideal_s: float
    limits: dict[str, float]
    lost: int
    again: int
    joining_s: float

    @property
    def limit(self) -> str:
        """What keeps the GPUs waiting; the GPUs themselves if they hardly wait."""
        others = {name: seconds for name, seconds in self.limits.items() if name != GPUS_LIMIT}
        waits = self.ideal_s < NEARLY * self.seconds and others
        return max(others, key=lambda name: others[name]) if waits else GPUS_LIMIT


class Simulation:
    """A generation: ``images`` asked about by ``drivers`` on ``nodes`` machines, read from a shared ``disk`` or not."""

    def __init__(self, images: float, nodes: int, drivers: int, disk: bool, seed: int = 0) -> None:
        self._images, self._nodes, self._drivers = images, nodes, drivers
        self._rng = random.Random(seed)
        self._disk = DISK_BYTES / IMAGE_BYTES if disk else math.inf
        self._in_flight = GPUS * GPU_RATE * LATENCY_S  # for each machine
        # A single driver walks the names once, and writes the rows of the run itself.
        self._slices = Slices(drivers, round(ROUNDS * nodes * self._in_flight / drivers if drivers > 1 else images))
        self._left = np.zeros(drivers)  # images of the slice of each driver
        self._caps = np.zeros(drivers)  # images a second that its processor is enough for
        self._slice: list[Slice | None] = [None] * drivers
        self._rest: dict[Slice, float] = {}  # of slices that lost drivers had
        self._up = [True] * nodes
        self._changes = [(self._lasts(), node) for node in range(nodes)]
        heapq.heapify(self._changes)

    def run(self) -> Result:
        """Until all images are asked about and all rows are joined."""
        now = joined_at = done = joining = 0.0
        lost = again = 0
        limits: defaultdict[str, float] = defaultdict(float)
        self._hand_out()
        while self._left.any():
            rates, limit = self._rates()
            with np.errstate(divide="ignore", invalid="ignore"):
                ends = np.where(self._left > 0, self._left / rates, math.inf)
            step = min(float(ends.min()), self._changes[0][0] - now)
            now += step
            limits[limit] += step
            before = self._left.sum()
            self._left = np.where(ends <= step * (1 + 1e-12), 0.0, np.maximum(self._left - rates * step, 0.0))
            done += before - self._left.sum()
            if step < ends.min():
                fell = self._change(now)
                lost, again = lost + fell, again + round(fell * self._in_flight)
            for driver in np.flatnonzero((self._left == 0) & np.array([one is not None for one in self._slice])):
                spent = self._size(self._slice[driver]) * (JOIN_S + key_s(done)) if self._drivers > 1 else 0.0
                joining += spent
                joined_at = max(joined_at, now) + spent
                self._slice[driver] = None
            self._hand_out()
        if joined_at > now:
            limits["joining"] += joined_at - now
        ideal = self._images / (self._nodes * GPUS * GPU_RATE)
        return Result(max(now, joined_at), ideal, limits, lost, again, joining)

    def _lasts(self) -> float:
        return self._rng.expovariate(1 / (NODE_DAYS * DAY))

    def _size(self, slice: Slice | None) -> float:
        return self._images / slice.n if slice else 0.0

    def _hand_out(self) -> None:
        for driver in range(self._drivers):
            if self._slice[driver] is None and self._up[driver % self._nodes]:
                slice = self._slices.take(round(self._images))
                if slice is None:
                    return
                self._slice[driver] = slice
                self._left[driver] = self._rest.pop(slice, self._size(slice))
                self._caps[driver] = 1 / (REQUEST_S + slice.n * NAME_S)

    def _rates(self) -> tuple[NDArray[np.float64], str]:
        """What each driver asks a second, and what keeps all of them from being faster."""
        gpus = sum(self._up) * GPUS * GPU_RATE
        given = min(gpus, self._disk)
        caps = np.where(self._left > 0, self._caps, 0.0)
        if caps.sum() <= given:
            return caps, "drivers"
        ordered = np.sort(caps)
        fair = (given - np.r_[0.0, np.cumsum(ordered)[:-1]]) / np.arange(len(caps), 0, -1)
        level = float(fair[np.argmax(ordered >= fair)])  # the same for all that could do more
        return np.minimum(caps, level), GPUS_LIMIT if gpus <= self._disk else "disk"

    def _change(self, now: float) -> int:
        """A machine is lost, with its driver, or is back; how many were lost."""
        _, node = heapq.heappop(self._changes)
        self._up[node] = not self._up[node]
        heapq.heappush(self._changes, (now + (self._lasts() if self._up[node] else BACK_S), node))
        if self._up[node]:
            return 0
        for driver in range(node, self._drivers, self._nodes):
            if slice := self._slice[driver]:
                self._slices.give_back(slice)
                self._rest[slice] = float(self._left[driver])
                self._slice[driver], self._left[driver] = None, 0.0
        return 1


def key_s(known: float) -> float:
    """Processor time for the key of one more row."""
    return float(np.interp(math.log10(max(known, 1.0)), list(KEY_S), list(KEY_S.values())))


def line(images: float, nodes: int, drivers: int, disk: bool) -> str:
    """A row of the table."""
    found = Simulation(images, nodes, drivers, disk).run()
    hours = f"{found.seconds / 3600:,.{1 if found.seconds > 3600 else 2}f}"
    head = 1 - math.exp(-found.seconds / (NODE_DAYS * DAY))
    cells = [f"{images:,.0f}", f"{nodes:,}", f"{drivers:,}", hours, _share(found.ideal_s / found.seconds), found.limit]
    cells += [f"{found.lost:,}", f"{found.again:,}", _share(found.joining_s / found.seconds)]
    cells += [_share(CALLS_S * drivers / RAY_CALLS), _share(head)]
    return f"| {' | '.join(cells)} |"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def here(latency_s: float, in_flight: int, cores: int, server_s: float) -> None:
    """Print what 1, 2 and 4 drivers should reach beside a server on the same cores."""
    print("| drivers | requests a second | limit |\n|---|---|---|")
    for drivers in (1, 2, 4):
        waiting, busy = drivers * in_flight / latency_s, cores / (REQUEST_S + server_s)
        own = drivers / REQUEST_S
        found = min(waiting, busy, own)
        limit = {waiting: "requests in flight", busy: "the cores", own: "the drivers"}[found]
        print(f"| {drivers} | {found:,.0f} | {limit} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=float, nargs="+", default=[1e6, 1e8, 1e9])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 16, 64, 256, 1000])
    parser.add_argument("--drivers", type=int, nargs="+", help="default: one, and one for each four machines")
    parser.add_argument("--latency", type=float, help="of the local server, in seconds")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--server-s", type=float, default=0.0003, help="processor time of the server for a request")
    args = parser.parse_args()
    if args.latency:
        here(args.latency, args.in_flight, args.cores, args.server_s)
        return
    for disk in (False, True):
        print(f"\n{'A shared folder' if disk else 'Images in object storage'}:\n")
        print(f"| {' | '.join(HEAD)} |")
        print("|---" * len(HEAD) + "|")
        for images, nodes in itertools.product(args.images, args.nodes):
            for drivers in args.drivers or sorted({1, -(-nodes // 4)}):
                print(line(images, nodes, drivers, disk), flush=True)


if __name__ == "__main__":
    main()
