"""Work that another thread does from time to time while a block runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def repeated(work: Callable[[], object], every_s: float, name: str) -> Iterator[None]:
    """Call ``work`` every ``every_s`` seconds in a thread called ``name`` until it returns True or the block ends."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(every_s) and work() is not True:
            pass

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
