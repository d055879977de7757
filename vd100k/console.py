"""What a person sees: plain lines, and a moving one where there is a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(highlight=False, soft_wrap=True)


def say(text: str = "") -> None:
    """One plain line; its text is never read as markup."""
    console.print(text, markup=False)


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """A spinner beside ``text`` in a terminal, one line in a log."""
    if console.is_terminal:
        with console.status(text):
            yield
    else:
        say(f"{text} …")
        yield


def progress() -> Progress:
    """A bar with count, rate-bearing text and time left; ``description`` and ``note`` are its fields."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )
