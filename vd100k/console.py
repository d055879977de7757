"""Console output: plain lines, tables, and in a terminal a spinner or a progress bar.

rich is imported only where it is used, so that a run in the background starts faster.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table


# Control characters but newline and tab, marks that reverse the order of text, and halves of characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
WIDE = 130  # columns needed for a progress bar with its note


def in_terminal() -> bool:
    """Whether the output goes to a terminal."""
    return sys.stdout.isatty()


def harmless(text: str) -> str:
    """The text with everything that a terminal would obey, or cannot show, written as an escape such as ``\\x1b``."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


class Filtered:
    """A text stream whose text passes through ``filter`` first."""

    def __init__(self, stream: TextIO, filter: Callable[[str], str]) -> None:
        self._stream, self._filter = stream, filter

    def write(self, text: str) -> int:
        self._stream.write(self._filter(text))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(text: str = "") -> None:
    """Print one line at once. A closed pipe is not an error: later output is discarded and the run continues."""
    try:
        print(harmless(text), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show(table: Table) -> None:
    """Print a table, without a limit on its width."""
    for column in table.columns:
        column._cells = [harmless(cell) if isinstance(cell, str) else cell for cell in column._cells]
        if isinstance(column.header, str):
            column.header = harmless(column.header)
    _console().print(table)


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show a spinner with ``text`` while the block runs; outside a terminal, print one line."""
    if in_terminal():
        with _console().status(harmless(text)):
            yield
    else:
        say(f"{text} …")
        yield


def progress_bar() -> Progress:
    """A progress bar with count and remaining time. The ``note`` is to its right, or below in a narrow window."""
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
