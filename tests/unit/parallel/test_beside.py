"""Work beside a block ends with the block, or when it says that it is done."""

from __future__ import annotations

import itertools
import threading

import pytest

from vd100k.parallel.beside import repeated


def test_work_is_repeated_until_it_is_done() -> None:
    counter, done = itertools.count(1), threading.Event()

    def work() -> bool:
        if next(counter) == 3:
            done.set()
        return done.is_set()

    with repeated(work, 0.001, "three times"):
        assert done.wait(30)
    assert next(counter) == 4


def test_no_thread_is_left_after_the_block_however_it_ends() -> None:
    with pytest.raises(KeyError), repeated(lambda: None, 0.001, "for ever"):
        raise KeyError
    assert "for ever" not in {thread.name for thread in threading.enumerate()}
