"""The requests and the cost of a run over time, as few points as a chart needs."""

from __future__ import annotations

from itertools import pairwise

MOST = 60  # points
FIRST_GAP_S = 1.0  # between two points; it doubles whenever there are too many
FEWEST = 4  # points that are worth a chart

Points = list[tuple[float, float]]
Columns = dict[str, list[float]]


class Pace:
    """Collects the counters of a run while it goes on; in memory it never has more than ``MOST`` points."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int, float | None]] = []
        self._last: tuple[float, int, float | None] | None = None
        self._gap = FIRST_GAP_S

    def add(self, now: float, requests: int, cost: float | None) -> None:
        """Add the counters at a time in seconds; ``cost`` in USD is None if it is not known."""
        self._last = now, requests, cost
        if self._points and now - self._points[-1][0] < self._gap:
            return
        self._points.append(self._last)
        if len(self._points) == MOST:
            self._points, self._gap = self._points[::2], 2 * self._gap

    def columns(self) -> Columns:
        """Seconds since the first point, requests and (if it is known) cost; empty after a run that was too short."""
        points = list(self._points)
        if self._last and self._last != points[-1]:
            # The end replaces a point that is close to it: a rate over a very short time says nothing.
            points[len(points) - (self._last[0] - points[-1][0] < self._gap / 2) :] = [self._last]
        if len(points) < FEWEST:
            return {}
        costs = [cost for _, _, cost in points if cost is not None]
        columns: Columns = {
            "seconds": [round(now - points[0][0], 2) for now, _, _ in points],
            "requests": [requests for _, requests, _ in points],
        }
        return columns | ({"cost": costs} if len(costs) == len(points) else {})


def rates(columns: Columns) -> Points:
    """The requests a second up to each point."""
    points = list(zip(columns["seconds"], columns["requests"], strict=True))
    return [(now, (after - before) / (now - then)) for (then, before), (now, after) in pairwise(points) if now > then]


def costs(columns: Columns) -> Points:
    """The cost up to each point; empty if it is not known."""
    return list(zip(columns["seconds"], columns["cost"], strict=True)) if "cost" in columns else []
