"""The images of a folder or a list, one after another, in constant memory for any number of them."""

from __future__ import annotations

import glob
import heapq
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from vd100k.errors import DataError
from vd100k.images.groups import ImageRef, Reject, Rule, grouped
from vd100k.images.ignored import Ignored, is_hidden
from vd100k.images.lists import images_of
from vd100k.images.paths import (
    NOT_UTF8,
    base_of,
    folder_of,
    is_inside,
    is_utf8,
    links_outside,
    outside_detail,
    printable,
    within,
)
from vd100k.io import tables
from vd100k.io.key_set import KeySet, row_key
from vd100k.stores import archives, listing, urls

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".hif", ".avif"}
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
    image_folder: str | None = None,
    reject: Reject = lambda id, reason, detail: None,
    ignored: Ignored | None = None,
    key: str = "images",
) -> Iterator[ImageRef]:
    """The images of a folder (searched recursively), of a .jsonl or .csv list, of archives or a URL, each once.

    Folders of up to 10,000 images are sorted by name; larger ones are sorted in blocks of that size. In a folder
    without images, those in its tar and Parquet files are meant. What is in archives comes in their order, objects in
    that of the server.
    A list has an ``image`` column with paths in ``image_folder``, or in the folder of the list; or an ``images``
    column with those of a group, whose id is the ``id`` of the line, else the ids of its images (``groups.joined``).
    Images outside that folder and lines without an image go to ``reject``. Other files, and whatever a name
    with a dot in front hides, are counted in ``ignored``. ``key`` is the configuration key that names the images
    in messages.

    Raises:
        DataError: ``images`` does not exist, contains no image, or cannot be listed.
    """
    first, ignored = "", Ignored() if ignored is None else ignored

    def rejected(id: str, reason: str, detail: str) -> None:
        nonlocal first
        first = first or f" The first rejected entry: {detail}."
        reject(id, reason, detail)

    found, is_ordered = _in_source(images, selection, image_folder, rejected, ignored, key)
    if selection.group:
        found, is_ordered = grouped(found, Rule(selection.group), rejected), True
    is_empty = True
    try:
        for image in selection.of(found, is_ordered):
            is_empty = False
            yield image
    except urls.StoreError as error:
        raise DataError(f"{key}={images}: {error}.") from error
    if is_empty:
        question = "Is it the right bucket and prefix?" if urls.is_url(images) else "Is it the right folder?"
        raise DataError(
            f"{key}={images}: no images in it (looked for {', '.join(sorted(SUFFIXES))}). "
            f"{question}{first}{f' {ignored}.' if ignored else ''}"
        )


def _in_source(
    images: str, selection: Selection, image_folder: str | None, reject: Reject, ignored: Ignored, key: str
) -> tuple[Iterator[ImageRef], bool]:
    """All images of a source, and whether their order is the one that counts, not that of their names."""
    source, root = Path(images).expanduser(), folder_of(images, image_folder)
    if not is_utf8(base_of(images) + images):
        raise DataError(f"{key}={printable(images)}: {NOT_UTF8}. Rename the folder.")
    if urls.is_url(images):
        if images.lower().endswith(tuple(tables.SUFFIXES)):
            raise DataError(f"{key}={images}: a list must be a file: copy it here, and set image_folder=URL.")
        return _stored(listing.below(images), base_of(images), root, reject, ignored), True
    if (named := archives.named(images)) and named.paths:
        return _stored(named.names(reject), named.folder, root, reject, ignored), True
    if source.is_dir():
        walked = _walk(str(source.absolute()), "", None if selection.ordered else BLOCK, reject, ignored.add)
        found = _in_folder(walked, source, root, reject)
        if (first := next(found, None)) is not None:
            return itertools.chain([first], found), False
        if (inside := archives.below(str(source.absolute()))).paths:
            for suffix in archives.SUFFIXES:
                del ignored[suffix]
            return _stored(inside.names(reject), inside.folder, root, reject, ignored), True
        return iter(()), False
    if source.suffix.lower() in tables.SUFFIXES and source.exists():
        return images_of(source, root, reject), True
    raise DataError(f"{key}={images}: {_unusable(images)}")


def _unusable(images: str) -> str:
    """What is wrong with a source that is nothing of what images are read from."""
    if images.lower().endswith(archives.COMPRESSED):
        return archives.DECOMPRESS
    known = (
        "Give a folder of images, a .jsonl or .csv list, .tar or .parquet files, or a URL such as s3://BUCKET/PREFIX."
    )
    if glob.has_magic(images):
        return f"no .tar or .parquet file has such a name. {known}"
    if not Path(images).expanduser().exists():
        return f"no such folder or file. {known}"
    return f"neither a folder of images nor a list of them. {known}"


def _stored(names: Iterable[str], base: str, root: str, reject: Reject, ignored: Ignored) -> Iterator[ImageRef]:
    """The images among the names of what is in archives or in object storage below ``base``."""
    outside = None if base == root else outside_detail(root)
    for name in names:
        if not is_image(name) or is_hidden(name):
            ignored.add_name(name)
        elif not is_utf8(name):
            reject(printable(name), "image_name", f"{NOT_UTF8}: rename it")
        elif outside and within(root, f"{base}/{name}") is None:
            reject(name, "image_outside", outside)
        else:
            yield ImageRef(name, f"{base}/{name}")


def is_image(name: str) -> bool:
    """Whether a name is that of an image: by its suffix, or as that of a row of a Parquet file."""
    return name[name.rfind(".") :].lower() in SUFFIXES or archives.is_row(name)


def count_images(images: str, selection: Selection = ALL) -> int:
    """About how many images ``find_images`` yields; quick, because nothing is examined closely."""
    if urls.is_url(images):
        try:
            found = _counted(filter(is_image, listing.below(images)), selection)
        except urls.StoreError as error:
            raise DataError(f"images={images}: {error}.") from error
    elif named := archives.named(images):
        found = named.count(is_image)
    elif (source := Path(images).expanduser()).is_dir():
        walked = (id for id, *_ in _walk(str(source), "", BLOCK, lambda *_: None, lambda _: None))
        found = _counted(walked, selection) or archives.below(str(source.absolute())).count(is_image)
    else:
        with source.open("rb") as file:
            found = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    found //= selection.shard[1]
    return min([found, *(n for n in (selection.sample, selection.limit) if n is not None)])


def _counted(ids: Iterable[str], selection: Selection) -> int:
    """The number of images with these ids, or of the groups that they form."""
    if selection.group is None:
        return sum(1 for _ in ids)
    rule, seen = Rule(selection.group), KeySet()
    for id in ids:
        if place := rule.place(id):
            seen.add(row_key(place[0]))
    return len(seen)


def _draw(id: str, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(id.encode(errors="surrogatepass"), seed=seed)


def _in_folder(walked: Iterable[tuple[str, str, bool]], source: Path, root: str, reject: Reject) -> Iterator[ImageRef]:
    """The images that are below ``root`` and have a name that rows can hold."""
    inside = is_inside(root, str(source.absolute()))
    for id, path, is_link in walked:
        if not is_utf8(id):
            reject(printable(id), "image_name", f"{NOT_UTF8}: rename it")
        elif not inside or (is_link and links_outside(root, path)):
            reject(id, "image_outside", outside_detail(root))
        else:
            yield ImageRef(id, path)


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
