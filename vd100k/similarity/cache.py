"""The looks of images, kept on disk: an image is decoded once, as long as its file does not change."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

import numpy as np
import xxhash
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from vd100k.io.key_set import OffsetIndex
from vd100k.similarity.look import LOOK, SIDE, Looks, Pixels, hashes, thumbnail
from vd100k.stores import files

THUMBNAIL = SIDE * SIDE * 3  # bytes
NAMES = "looks-2", "thumbnails-2"  # with the version of what they hold
BLOCK = 1 << 16  # looks read at a time

Files = Sequence[IO[bytes]]  # of the looks, and of the thumbnails


class Taken(NamedTuple):
    """The look of an image and its thumbnail, as the files have them."""

    look: bytes
    thumbnail: bytes


def take(path: str, image: Image.Image, plain: bool) -> Taken:
    """The look of an upright image that was read from ``path``, which may be ``plain``.

    Raises:
        OSError: the file is gone.
    """
    look = np.zeros(1, LOOK)
    look["key"], look["content"] = _key(path), _content(path)
    look["size"], look["plain"] = image.size, plain
    look["hash"], look["framed"], look["trimmed"] = hashes(image)
    return Taken(look.tobytes(), thumbnail(image).tobytes())


class LookCache:
    """The looks of images by number, those in the folder first, then the new ones, which are added to it at the end.

    Two files hold values of the type ``LOOK`` and thumbnails in the same order. They may be deleted at any time.
    Threads may share a cache.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._adding = threading.Lock()
        self._index = OffsetIndex()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self._old: Files = [stack.enter_context((self._folder / name).open("a+b")) for name in NAMES]
            self._new: Files = [stack.enter_context(tempfile.TemporaryFile()) for _ in NAMES]
            self._kept = min(
                os.fstat(file.fileno()).st_size // size
                for file, size in zip(self._old, (LOOK.itemsize, THUMBNAIL), strict=True)
            )
            self._added = 0
            self.index()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with self._stack:
            if self._added:
                self._keep()

    def __len__(self) -> int:
        return self._kept + self._added

    def index(self) -> None:
        """Let ``find`` know the looks that have been added until now."""
        index = OffsetIndex()
        for start in range(0, len(self), BLOCK):
            for number, key in enumerate(self.looks(start, start + BLOCK)["key"].tolist(), start):
                index.add(key, number)
        index.sort()
        self._index = index

    def forget(self) -> None:
        """Give the memory of ``find`` back until the next ``index``: 16 bytes a look."""
        self._index = OffsetIndex()

    def find(self, path: str) -> int | None:
        """The number of the look of an image file as it is now; None if it is not known.

        Raises:
            OSError: there is no such file.
        """
        return self._index.find(_key(path))

    def add(self, taken: Taken) -> int:
        """Keep a look, and return its number.

        Raises:
            OSError: the disk is full.
        """
        with self._adding:
            self._new[1].seek(self._added * THUMBNAIL)
            self._new[1].write(taken.thumbnail)
            self._new[0].seek(self._added * LOOK.itemsize)
            self._new[0].write(taken.look)
            self._added += 1
            return len(self) - 1

    def look(self, number: int) -> np.void:
        return self.looks(number, number + 1)[0]  # type: ignore[no-any-return]

    def chosen(self, numbers: NDArray[np.uint32]) -> Looks:
        """The looks with these numbers, in their order."""
        if len(numbers) and (np.diff(numbers.astype(np.int64)) == 1).all():
            return self.looks(int(numbers[0]), int(numbers[-1]) + 1)
        parts = [self.looks(number, number + 1) for number in numbers.tolist()]
        return np.concatenate(parts) if parts else np.empty(0, LOOK)

    def looks(self, start: int, end: int) -> Looks:
        """The looks with the numbers from ``start`` up to ``end``, or to the last one."""
        parts = [self._read(0, first, last, LOOK.itemsize, file) for file, first, last in self._ranges(start, end)]
        return np.frombuffer(b"".join(parts), LOOK)

    def thumbnails(self, numbers: list[int]) -> Pixels:
        """The thumbnails of images, of the shape (images, side, side, 3)."""
        parts = [
            self._read(1, first, last, THUMBNAIL, file)
            for number in numbers
            for file, first, last in self._ranges(number, number + 1)
        ]
        return np.frombuffer(b"".join(parts), np.uint8).reshape(-1, SIDE, SIDE, 3)

    def _ranges(self, start: int, end: int) -> list[tuple[Files, int, int]]:
        """Where looks are: the old or the new files, and the numbers in them."""
        kept, end = self._kept, min(end, len(self))
        old, new = (self._old, start, min(end, kept)), (self._new, max(start, kept) - kept, end - kept)
        return [part for part in (old, new) if part[1] < part[2]]

    def _read(self, which: int, first: int, last: int, size: int, files: Files) -> bytes:
        with self._adding:
            files[which].flush()
        return os.pread(files[which].fileno(), (last - first) * size, first * size)

    def _keep(self) -> None:
        """Append the new looks to the files in the folder, which other processes may have appended to."""
        with FileLock(self._folder / "lock"):
            ends = [
                os.fstat(file.fileno()).st_size // size
                for file, size in zip(self._old, (LOOK.itemsize, THUMBNAIL), strict=True)
            ]
            for which in (1, 0):  # a look without a thumbnail would be wrong, one too many of these is not
                size = (LOOK.itemsize, THUMBNAIL)[which]
                self._old[which].truncate(min(ends) * size)  # what a crash left behind
                for start in range(0, self._added, BLOCK // 16):
                    end = min(start + BLOCK // 16, self._added)
                    self._old[which].write(self._read(which, start, end, size, self._new))
                self._old[which].flush()


def _key(path: str) -> int:
    try:
        facts = os.stat(path)  # noqa: PTH116 (called for each of a million images)
        text = f"{os.path.abspath(path)}\0{facts.st_size}\0{facts.st_mtime_ns}"  # noqa: PTH100
    except (FileNotFoundError, NotADirectoryError):  # or it is in an archive, or in object storage
        text = f"{path}\0{files.version(path)}"
    return xxhash.xxh3_64_intdigest(text.encode(errors="surrogatepass"))


def _content(path: str) -> int:
    with files.opened(path) as file:
        digest = xxhash.xxh3_64()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.intdigest()
