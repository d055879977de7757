"""What stages need before they start; what is missing for any step of a pipeline is found before its first step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vd100k.config.run import Run
from vd100k.errors import Vd100kError
from vd100k.stores.urls import is_url


@dataclass(frozen=True)
class Need:
    """Something that must be there before a stage starts.

    ``faults`` returns what is wrong with it, each with the remedy. ``path`` is the file or folder that is needed, if
    it is one: an earlier step may make it. ``given`` says that the user named it. A dry run checks nothing else, since
    it often describes a run on another machine.
    """

    faults: Callable[[], Iterable[str]]
    path: Path | None = None
    given: bool = False


def missing(path: Path, text: str, given: bool = False) -> Need:
    """The need of a file or folder; ``text`` says what is wrong if it does not exist."""
    return Need(lambda: [] if path.exists() else [text], path, given)


def images(source: str, run: Run, key: str = "images") -> Need:
    """The need of at least one image in a source."""
    from vd100k.images.find import Selection, find_images  # slow to import

    found = find_images(source, Selection(group=run.group), run.image_folder, key=key)
    return Need(raised(lambda: next(found)), None if is_url(source) else Path(source).expanduser(), given=True)


def raised(check: Callable[[], object]) -> Callable[[], Iterable[str]]:
    """The function that calls ``check`` and returns the message of its error, if it raises one of ours."""

    def faults() -> Iterable[str]:
        try:
            check()
        except Vd100kError as error:
            return [str(error)]
        return []

    return faults


def faults(steps: Iterable[tuple[Iterable[Need], Iterable[Path]]], only_given: bool = False) -> list[str]:
    """What is wrong with the needs of steps, in order and each once; every step has its needs and what it makes.

    What an earlier step makes is not missing, and nothing is reported about the content of a missing folder.
    """
    made: list[Path] = []
    absent: list[Path] = []
    found: dict[str, None] = {}
    for needs, makes in steps:
        for need in needs:
            if (only_given and not need.given) or (need.path and _is_in(need.path, [*made, *absent])):
                continue
            found |= dict.fromkeys(need.faults())
            if need.path and not need.path.exists():
                absent.append(need.path)
        made += makes
    return list(found)


def _is_in(path: Path, folders: list[Path]) -> bool:
    return any(path.absolute().is_relative_to(folder.absolute()) for folder in folders)
