"""Which images there are: those of a folder or of a list, one after another, however many."""

from __future__ import annotations

import functools
import heapq
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from vd100k.errors import DataError
from vd100k.io import jsonl as lines
from vd100k.io.key_set import Keys, key

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
BLOCK = 10_000  # names sorted at a time: memory stays the same for a folder of millions


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file and its id, its path relative to the folder it was found in."""

    id: str
    path: str


Refuse = Callable[[str, str, str], None]  # id (or line), reason in a word, in a sentence


@dataclass(frozen=True)
class Selection:
    """Which images: shard k of n by the hash of the name, a ``sample`` drawn by ``seed``, the first ``limit``."""

    limit: int | None = None
    sample: int | None = None
    seed: int = 42
    shard: tuple[int, int] = (1, 1)
    # Also a folder of more than BLOCK images wholly in the order of names.
    ordered: bool = False

    def of(self, pictures: Iterable[Picture], ordered: bool) -> Iterator[Picture]:
        """Those selected; ``ordered`` says that the first in order are the first that come."""
        k, n = self.shard
        if n > 1:
            pictures = (picture for picture in pictures if key(picture.id) % n == k - 1)
        if self.sample is not None:
            drawn = heapq.nsmallest(self.sample, pictures, key=lambda picture: _draw(picture.id, self.seed))
            pictures, ordered = sorted(drawn, key=lambda picture: picture.id), True
        if self.limit is not None and not ordered:
            pictures = heapq.nsmallest(self.limit, pictures, key=lambda picture: picture.id)
        return itertools.islice(pictures, self.limit)


EVERY = Selection()


def find(
    images: str,
    selection: Selection = EVERY,
    image_folder: Path | None = None,
    refuse: Refuse = lambda id, reason, detail: None,
) -> Iterator[Picture]:
    """The images of a folder (searched to any depth) or of a .jsonl or .csv list, each once.

    Folders of up to 10,000 images come in the order of their names, larger ones sorted in blocks of
    as many. A list has an ``image`` column of paths in ``image_folder``, or in the list's own
    folder. What leads outside of that, and lines that name nothing, go to ``refuse``.

    Raises:
        DataError: nothing there, or no image in it.
    """
    source, first = Path(images).expanduser(), ""

    def refused(id: str, reason: str, detail: str) -> None:
        nonlocal first
        first = first or f" The first refused: {detail}."
        refuse(id, reason, detail)

    if not source.exists():
        raise DataError(f"images={images}: no such folder or file. Give a folder of images, or a .jsonl or .csv list.")
    if source.is_dir():
        found = selection.of(_in_folder(source, image_folder or source, refused, selection.ordered), ordered=False)
    elif source.suffix.lower() in lines.SUFFIXES:
        found = selection.of(_listed(source, image_folder or source.parent, refused), ordered=True)
    else:
        raise DataError(f"images={images}: neither a folder of images nor a .jsonl or .csv list of them.")
    some = False
    for picture in found:
        some = True
        yield picture
    if not some:
        raise DataError(
            f"images={images}: no images in it (looked for {', '.join(sorted(SUFFIXES))}). "
            f"Is it the right folder?{first}"
        )


def count(images: str, selection: Selection = EVERY) -> int:
    """About as many as ``find`` would give: nothing is looked at closely, so that it takes a moment."""
    source = Path(images).expanduser()
    if source.is_dir():
        found = sum(1 for _ in _walk(str(source), "", BLOCK))
    else:
        with source.open("rb") as file:
            found = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    found //= selection.shard[1]
    return min([found, *(n for n in (selection.sample, selection.limit) if n is not None)])


def within(folder: Path, name: str) -> Path | None:
    """The path of an image named relatively to ``folder`` or absolutely; None if it leads outside, also by a link."""
    try:
        real = (folder / name).resolve()
        return folder.absolute() / name if real.is_relative_to(folder.resolve()) else None
    except (OSError, ValueError, RuntimeError):  # a loop of links, a null byte
        return None


def leads_out(folder: str, path: str) -> bool:
    """Whether a path below ``folder`` leads out of it by a link."""
    return not _inside(folder, os.path.dirname(path)) or (os.path.islink(path) and within(Path(folder), path) is None)


def outside(folder: Path) -> str:
    """Why an image is not read, in a sentence."""
    return f"not in {folder}, so it is not read; image_folder=FOLDER declares another"


@functools.lru_cache(4096)
def _inside(folder: str, name: str) -> bool:
    return within(Path(folder), name) is not None


def _draw(id: str, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(id.encode(errors="surrogatepass"), seed=seed)


def _in_folder(source: Path, folder: Path, refuse: Refuse, ordered: bool) -> Iterator[Picture]:
    root = str(folder.absolute())
    inside = _inside(root, str(source.absolute()))
    for id, path, is_link in _walk(str(source.absolute()), "", None if ordered else BLOCK):
        if not inside or (is_link and leads_out(root, path)):
            refuse(id, "image_outside", outside(folder))
        else:
            yield Picture(id, path)


def _walk(folder: str, prefix: str, block: int | None) -> Iterator[tuple[str, str, bool]]:
    """Id, path, and whether it is a link, of the images below ``folder``; links to folders are not followed."""
    with os.scandir(folder) as entries:
        while some := list(itertools.islice(entries, block)):
            some.sort(key=lambda entry: entry.name)
            for entry in some:
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(entry.path, f"{prefix}{entry.name}/", block)
                elif entry.name[entry.name.rfind(".") :].lower() in SUFFIXES and entry.is_file():
                    yield prefix + entry.name, entry.path, entry.is_symlink()


def _listed(source: Path, folder: Path, refuse: Refuse) -> Iterator[Picture]:
    """What a list names; whether a link leads out is only known when it is read (``leads_out``)."""
    seen, base = Keys(), os.path.normpath(folder.absolute())
    for number, row in lines.read(source):
        where = f"{source.name}, line {number}"
        if isinstance(row, lines.Fault):
            refuse(where, row.reason, row.detail)
            continue
        name = row.get("image")
        if not isinstance(name, str) or not name:
            refuse(where, "incomplete", 'no "image": each row names an image file')
            continue
        id = _id(base, name)
        if id is None:
            refuse(name, "image_outside", f"{where}: {outside(folder)}")
        elif seen.add(key(id)):
            yield Picture(id, f"{base}/{id}")


def _id(base: str, name: str) -> str | None:
    """The path relative to ``base`` of an image named relatively to it or absolutely; None if it is not below."""
    if name[0] != "/" and "./" not in name and "//" not in name:  # as nearly all are
        return name
    path = os.path.normpath(f"{base}/{name}" if name[0] != "/" else name)
    for root in (base, os.path.realpath(base)):
        if path.startswith(f"{root}/"):
            return path[len(root) + 1 :]
    return None
