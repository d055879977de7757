"""The images of a folder or a list, one after another, in constant memory for any number of them."""

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
from vd100k.images.groups import ImageRef, Reject, Rule, grouped, joined, names
from vd100k.images.ignored import Ignored
from vd100k.io import tables
from vd100k.io.jsonl import Fault, Row
from vd100k.io.key_set import KeySet, row_key

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".hif", ".avif"}
NOT_UTF8 = "the name is not UTF-8 text, which neither rows nor training files can hold"
BLOCK = 10_000  # names sorted at a time, so that a folder of millions takes no more memory


Ignore = Callable[["os.DirEntry[str]"], None]  # called for an entry of a folder that is not an image


@dataclass(frozen=True)
class Selection:
    """Which images to take: shard k of n by the hash of the id, a ``sample`` drawn by ``seed``, the first ``limit``."""

    limit: int | None = None
    sample: int | None = None
    seed: int = 42
    shard: tuple[int, int] = (1, 1)
    # Sort the whole folder by name, also one of more than BLOCK images.
    ordered: bool = False
    # What is selected are groups of images by this rule: see ``groups.Rule``.
    group: str | None = None

    def of(self, images: Iterable[ImageRef], ordered: bool) -> Iterator[ImageRef]:
        """The selected images; ``ordered`` says whether ``images`` are sorted by id."""
        k, n = self.shard
        if n > 1:
            images = (image for image in images if row_key(image.id) % n == k - 1)
        if self.sample is not None:
            drawn = heapq.nsmallest(self.sample, images, key=lambda image: _draw(image.id, self.seed))
            images, ordered = sorted(drawn, key=lambda image: image.id), True
        if self.limit is not None and not ordered:
            images = heapq.nsmallest(self.limit, images, key=lambda image: image.id)
        return itertools.islice(images, self.limit)


ALL = Selection()


def find_images(
    images: str,
    selection: Selection = ALL,
    image_folder: Path | None = None,
    reject: Reject = lambda id, reason, detail: None,
    ignored: Ignored | None = None,
    key: str = "images",
) -> Iterator[ImageRef]:
    """The images of a folder (searched recursively) or of a .jsonl or .csv list, each once.

    Folders of up to 10,000 images are sorted by name; larger ones are sorted in blocks of that size.
    A list has an ``image`` column with paths in ``image_folder``, or in the folder of the list; or an ``images``
    column with those of a group, whose id is the ``id`` of the line, else the ids of its images (``groups.joined``).
    Images outside that folder and lines without an image go to ``reject``. Other files, and whatever a name
    with a dot in front hides, are counted in ``ignored``. ``key`` is the configuration key that names the images
    in messages.

    Raises:
        DataError: ``images`` does not exist, or contains no image.
    """
    source, first = Path(images).expanduser(), ""
    ignored = Ignored() if ignored is None else ignored

    def rejected(id: str, reason: str, detail: str) -> None:
        nonlocal first
        first = first or f" The first rejected entry: {detail}."
        reject(id, reason, detail)

    if not source.exists():
        raise DataError(f"{key}={images}: no such folder or file. Give a folder of images, or a .jsonl or .csv list.")
    if not is_utf8(str(source.absolute())):
        raise DataError(f"{key}={printable(images)}: {NOT_UTF8}. Rename the folder.")
    if source.is_dir():
        block = None if selection.ordered else BLOCK
        walked = _walk(str(source.absolute()), "", block, rejected, ignored.add)
        found = _in_folder(walked, source, image_folder or source, rejected)
    elif source.suffix.lower() in tables.SUFFIXES:
        found = _in_list(source, image_folder or source.parent, rejected)
    else:
        raise DataError(f"{key}={images}: neither a folder of images nor a .jsonl or .csv list of them.")
    if selection.group:
        found = grouped(found, Rule(selection.group), rejected)
    is_empty = True
    for image in selection.of(found, ordered=bool(selection.group) or not source.is_dir()):
        is_empty = False
        yield image
    if is_empty:
        raise DataError(
            f"{key}={images}: no images in it (looked for {', '.join(sorted(SUFFIXES))}). "
            f"Is it the right folder?{first}{f' {ignored}.' if ignored else ''}"
        )


def count_images(images: str, selection: Selection = ALL) -> int:
    """About how many images ``find_images`` yields; quick, because nothing is examined closely."""
    source = Path(images).expanduser()
    if source.is_dir():
        ids = (id for id, _, _ in _walk(str(source), "", BLOCK, lambda *_: None, lambda _: None))
        found = count_groups(ids, selection.group) if selection.group else sum(1 for _ in ids)
    else:
        with source.open("rb") as file:
            found = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    found //= selection.shard[1]
    return min([found, *(n for n in (selection.sample, selection.limit) if n is not None)])


def count_groups(ids: Iterable[str], group: str) -> int:
    """The number of groups that images with these ids form."""
    rule, seen = Rule(group), KeySet()
    for id in ids:
        if place := rule.place(id):
            seen.add(row_key(place[0]))
    return len(seen)


def within(folder: Path, name: str) -> Path | None:
    """The path of an image given absolutely or relative to ``folder``; None if it, or a link in it, leads outside."""
    try:
        real = (folder / name).resolve()
        return folder.absolute() / name if real.is_relative_to(folder.resolve()) else None
    except (OSError, ValueError, RuntimeError):  # a loop of links, a null byte
        return None


def links_outside(folder: str, path: str) -> bool:
    """Whether a path below ``folder`` leads outside it through a link."""
    return not _is_inside(folder, os.path.dirname(path)) or (
        os.path.islink(path) and within(Path(folder), path) is None
    )


def outside_detail(folder: Path) -> str:
    """A sentence for an image that is not read because it lies outside ``folder``."""
    return f"not in {folder}, so it is not read; image_folder=FOLDER declares another"


@functools.lru_cache(4096)
def _is_inside(folder: str, name: str) -> bool:
    return within(Path(folder), name) is not None


def _draw(id: str, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(id.encode(errors="surrogatepass"), seed=seed)


def _in_folder(
    walked: Iterable[tuple[str, str, bool]], source: Path, folder: Path, reject: Reject
) -> Iterator[ImageRef]:
    """The images that are below ``folder`` and have a name that rows can hold."""
    root = str(folder.absolute())
    inside = _is_inside(root, str(source.absolute()))
    for id, path, is_link in walked:
        if not is_utf8(id):
            reject(printable(id), "image_name", f"{NOT_UTF8}: rename it")
        elif not inside or (is_link and links_outside(root, path)):
            reject(id, "image_outside", outside_detail(folder))
        else:
            yield ImageRef(id, path)


def is_utf8(name: str) -> bool:
    """Whether a name of a file is text; other bytes are lone surrogates in it."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def printable(name: str) -> str:
    """A name as text: if it is not UTF-8, ``./`` and the name with such bytes as ``\\xNN`` and doubled backslashes.

    No two names look alike then, and none looks like an id, which never begins with ``./``.
    """
    if is_utf8(name):
        return name
    return "./" + os.fsencode(name).replace(b"\\", b"\\\\").decode(errors="backslashreplace")


def _walk(
    folder: str, prefix: str, block: int | None, reject: Reject, ignore: Ignore
) -> Iterator[tuple[str, str, bool]]:
    """The id and the path of each image below ``folder``, and whether it is a link.

    Links to folders are not followed. They, hidden files and folders, and other files go to ``ignore``.
    """
    with os.scandir(folder) as entries:
        while some := list(itertools.islice(entries, block)):
            some.sort(key=lambda entry: entry.name)
            for entry in some:
                name = entry.name
                try:
                    if name[0] == ".":
                        ignore(entry)
                    elif entry.is_dir(follow_symlinks=False):
                        yield from _walk(entry.path, f"{prefix}{name}/", block, reject, ignore)
                    elif name[name.rfind(".") :].lower() in SUFFIXES and entry.is_file():
                        yield prefix + name, entry.path, entry.is_symlink()
                    else:
                        ignore(entry)
                except OSError as error:  # a link to itself, a folder that may not be read
                    reject(printable(prefix + name), "image_unreadable", f"{printable(entry.path)}: {error.strerror}")


def _in_list(source: Path, folder: Path, reject: Reject) -> Iterator[ImageRef]:
    """The images and groups that a list names; links are checked when an image is read (``links_outside``)."""
    seen, whole, base = KeySet(), KeySet(), os.path.normpath(folder.absolute())
    for number, row in tables.read(source, [("image", "images")], "Name the column with the image files so."):
        where = f"{source.name}, line {number}"
        if isinstance(row, Fault):
            reject(where, row.reason, row.detail)
            continue
        found = _listed(row, base, folder)
        if isinstance(found, Fault):
            reject(found.raw or where, found.reason, f"{where}: {found.detail}")
        elif not found.others and not found.questions:
            if seen.add(row_key(found.id)):
                yield found
        elif whole.add(row_key(repr(found))):  # not a repetition of an earlier line
            if seen.add(row_key(found.id)):
                yield found
            else:
                detail = f"{where}: an earlier line has the id {found.id} too, and other images or questions"
                reject(where, "repeated_id", detail)  # the id is that of the earlier line


def _listed(row: Row, base: str, folder: Path) -> ImageRef | Fault:
    """The image or group on a line of a list, or what is wrong with it."""
    given, asked, own = names(row), row.get("questions") or (), row.get("id")
    if not given:
        detail = f'no "image" or "images", which name image files; {tables.columns_found(row)}'
        return Fault("incomplete", detail, "")
    ids = [id for name in given if (id := _id(base, name)) is not None]
    if len(ids) < len(given):
        return Fault("image_outside", outside_detail(folder), joined(given))
    texts = isinstance(asked, list | tuple) and all(isinstance(text, str) and text.strip() for text in asked)
    if not texts or len(set(asked)) < len(asked):
        return Fault("incomplete", '"questions" is not a list of different questions', joined(given))
    paths = tuple(f"{base}/{id}" for id in ids)
    named = isinstance(own, str) and own and len(ids) > 1
    return ImageRef(str(own) if named else joined(ids), paths[0], paths[1:], tuple(asked))


def _id(base: str, name: str) -> str | None:
    """The path relative to ``base`` of an image given absolutely or relative to it; None if it is not below."""
    if name[0] != "/" and "./" not in name and "//" not in name:  # almost always
        return name
    path = os.path.normpath(f"{base}/{name}" if name[0] != "/" else name)
    for root in (base, os.path.realpath(base)):
        if path.startswith(f"{root}/"):
            return path[len(root) + 1 :]
    return None
