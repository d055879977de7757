"""What a person sees: plain lines, and a moving one where there is a terminal.

rich is imported where something moves or a table is drawn: a run in the background starts without.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table


WIDE = 130  # columns that a bar and its note want


def in_terminal() -> bool:
    """Whether a person may be looking on."""
    return sys.stdout.isatty()


def say(text: str = "") -> None:
    """One plain line, above whatever moves; a run goes on when nobody listens any more."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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


def progress_bar() -> Progress:
    """A bar with count and time left, and a ``note`` beside it, or below where the window is narrow."""
    from rich.console import RenderableType
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    console = _console()
    wide = console.width >= WIDE

    class Noted(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            if not wide:
                yield from (Text(f"  {task.fields['note']}") for task in self.tasks)

    return Noted(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        *([TextColumn("{task.fields[note]}", markup=False)] if wide else []),
        console=console,
        disable=not in_terminal(),
    )


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)
