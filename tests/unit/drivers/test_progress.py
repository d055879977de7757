"""The counters of several drivers are one run's."""

from __future__ import annotations

import pickle

from vd100k.generation.progress import Progress


def counted(**counters: int) -> Progress:
    progress = Progress("images")
    for name, value in counters.items():
        setattr(progress, name, value)
    return progress


def test_counters_are_added_up_and_rows_of_lost_drivers_are_those_of_this_run() -> None:
    one, two, whole = (
        counted(total=10, reused=4, saved=5, answered=5),
        counted(total=6, reused=5, resumed=3),
        Progress(""),
    )
    one.fail("http_400", "no")
    one.usage.requests = 7
    two.fail("http_400", "never")
    two.ignored[".mov"] = 2
    whole.add_up([one, two])
    assert (whole.total, whole.reused, whole.saved, whole.failed, whole.open) == (16, 6, 8, 2, 0)
    assert whole.usage.requests == 7
    assert whole.counts()["ignored"] == 2


def test_a_snapshot_does_not_change_and_can_be_sent() -> None:
    progress = counted(total=3, saved=2)
    taken = progress.snapshot()
    progress.fail("http_400", "no")
    progress.total, progress.usage.requests = 9, 4
    sent = pickle.loads(pickle.dumps(taken))
    assert (sent.total, sent.failed, sent.usage.requests) == (3, 0, 0)
