"""Several processes share work: the order stays, errors arrive, and no process outlives the one that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import psutil
import pytest

from tests.conftest import ROOT
from vd100k.errors import DataError
from vd100k.parallel.ordered import in_order

GRACE_S = 30  # for processes to end; they do so within a second


class Square:
    """Squares numbers, and knows which process it is in."""

    def __call__(self, number: int) -> tuple[int, int]:
        if number == 13:
            raise DataError("13 has no square")
        if number == 17:
            os.kill(os.getpid(), signal.SIGKILL)
        return number**2, os.getpid()


@pytest.mark.parametrize(("processes", "alone"), [(1, 0), (2, 0), (3, 5), (2, 1000)])
@pytest.mark.parametrize("count", [0, 1, 6, 300])
def test_results_are_in_the_order_of_the_items(processes: int, alone: int, count: int) -> None:
    items = (number for number in range(100, 100 + count))
    done = list(in_order(Square(), Square, items, processes, alone))
    assert [square for square, _ in done] == [number**2 for number in range(100, 100 + count)]
    own = [process == os.getpid() for _, process in done]
    assert all(own[:alone])
    assert all(own) or processes > 1


def test_only_a_few_items_are_taken_in_advance() -> None:
    taken = []
    items = (taken.append(number) or number for number in range(100, 100_000))  # type: ignore[func-returns-value]
    done = in_order(Square(), Square, items, 2, 0)
    for expected in range(100, 1000):
        assert next(done)[0] == expected**2
        assert len(taken) <= expected - 100 + 5
    done.close()


def started(number: int, own: Callable[[int], tuple[int, int]]) -> list[tuple[int, int]]:
    """The results for many numbers, of which one that ``number`` is comes after the processes have started."""
    return list(in_order(own, Square, iter([*range(100, 3000), number, *range(100, 200)]), 2, 0))


def slow(number: int) -> tuple[int, int]:
    """Square a number in this process, slowly, so that the others have started before many are done."""
    import time

    time.sleep(0.01)
    return number**2, os.getpid()


def test_an_error_in_another_process_arrives_as_it_is() -> None:
    with pytest.raises(DataError, match="13 has no square"):
        started(13, slow)


def test_a_process_that_is_killed_ends_the_work() -> None:
    with pytest.raises(BrokenProcessPool):
        started(17, slow)


ENDLESS = """
import itertools, sys
from tests.unit.parallel.test_ordered import Square
from vd100k.parallel.ordered import in_order
if __name__ == "__main__":
    own = Square()
    for square, process in in_order(own, Square, itertools.count(100), 2, 0):
        if process != own(1)[1]:
            print("started", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_outlives_the_one_that_started_it(number: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, env=environment
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    others = psutil.Process(parent.pid).children(recursive=True)
    assert len(others) >= 3
    parent.send_signal(number)
    parent.stdout.close()
    parent.wait(GRACE_S)
    _, alive = psutil.wait_procs(others, GRACE_S)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def test_a_function_can_be_made_with_arguments() -> None:
    done = list(in_order(partial(pow, 2), partial(partial, pow, 2), iter(range(3)), 2, 0))
    assert done == [1, 2, 4]
