"""What a person sees: plain lines, and a moving one where there is a terminal.

rich is imported where something moves or a table is drawn: a run in the background starts without.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table


def in_terminal() -> bool:
    """Whether a person may be looking on."""
    return sys.stdout.isatty()


def say(text: str = "") -> None:
    """One plain line, above whatever moves."""
    print(text, flush=True)


def show(table: Table) -> None:
    """A table, as wide as it needs to be where nobody's window limits it."""
    _console().print(table)


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """A spinner beside ``text`` in a terminal, one line in a log."""
    if in_terminal():
        with _console().status(text):
            yield
    else:
        say(f"{text} …")
        yield


def progress() -> Progress:
    """A bar with count, rate-bearing text and time left; ``description`` and ``note`` are its fields."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=_console(),
        disable=not in_terminal(),
    )


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)
