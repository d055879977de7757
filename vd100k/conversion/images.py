"""The images that rows name: the rules about them, and plain copies of those that programs read differently."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path
from typing import NamedTuple

from vd100k.config.stages import Rules
from vd100k.conversion.filters import RejectedRow
from vd100k.images.encode import ImageError, plain
from vd100k.images.groups import names
from vd100k.images.paths import is_utf8, outside_detail, within
from vd100k.images.resizing import SizeRule
from vd100k.io import fingerprint
from vd100k.io.jsonl import Row
from vd100k.similarity.cache import LookCache, Taken, take
from vd100k.sources.unpacked import file_of
from vd100k.stores.files import is_stored
from vd100k.stores.urls import is_url

CACHED = 8192  # images whose checks are remembered, more than the rows that are checked in advance
LEAST_TOKENS = 4  # of an image; smaller ones, such as icons, would mostly be blown up
MAX_ASPECT_RATIO = 200  # Qwen-VL refuses longer and narrower images


class TrainingImage(NamedTuple):
    """An image as rows use it: the path to train on, its name in the image folder, its size in pixels if known.

    ``file`` is the image itself, or its content as a file; ``path`` may be a plain copy. ``look`` is the
    number of its look, if it was taken.
    """

    path: str
    name: str
    size: tuple[int, int] | None
    file: str
    look: int | None = None


class ImageChecker:
    """Checks the images that rows name, and makes plain copies of those that programs decode differently.

    No image outside ``folders`` is used. Copies go to the folder ``copies``, and images that have no file of their own
    to ``images`` beside it. Results are cached, because several
    rows often share an image. ``reads`` says whether the writer will read the images. Images that are decoded leave
    their look in ``looks``, and a plain one that has a look there is not decoded again.
    """

    def __init__(
        self,
        folders: tuple[str, ...],
        copies: Path,
        rules: Rules,
        size_rule: SizeRule,
        reads: bool,
        looks: LookCache | None = None,
    ) -> None:
        self._folders = [one if is_url(one) else os.path.normpath(Path(one).absolute()) for one in folders]
        self._roots = [f"{folder}/" for folder in self._folders]
        self._copies, self._rules, self._size_rule, self._reads = copies, rules, size_rule, reads
        self._looks = looks
        self.accesses_files = rules.open_images or rules.image_missing or rules.image_changed or reads
        self.check = functools.lru_cache(maxsize=CACHED)(self._check)
        self._sha256 = functools.lru_cache(maxsize=CACHED)(fingerprint.of_file)

    def check_all(self, row: Row) -> list[TrainingImage]:
        """The image of a row, or the images of its group, which must be those that it was answered about.

        Raises:
            RejectedRow: one of them is outside the folders, or breaks a rule.
        """
        given, hashes = names(row), row.get("images_sha256") if "images" in row else [row.get("image_sha256")]
        recorded = hashes if isinstance(hashes, list) and len(hashes) == len(given) else [None] * len(given)
        known = (sha256 if sha256.__class__ is str else None for sha256 in recorded)
        images = list(map(self.check, given, known))
        if not self._rules.image_changed:
            return images
        if "images" in row:
            times = row.get("images_mtime_ns") or [None] * len(images)
            lists = isinstance(hashes, list) and isinstance(times, list)
            recorded = list(zip(hashes, times, strict=False)) if lists else []  # type: ignore[arg-type]
        else:
            recorded = [(row.get("image_sha256"), row.get("image_mtime_ns"))]
        for image, facts in zip(images, recorded, strict=False):
            self._check_unchanged(image, *facts)
        return images

    def _check_unchanged(self, image: TrainingImage, answered: object, mtime_ns: object) -> None:
        """Check that the image is the one that the row was answered about; an untouched file is not read.

        The rows of one image may have been answered about different contents, so the result belongs to the row.

        Raises:
            RejectedRow: the row records the hash of another content.
        """
        if answered.__class__ is not str:
            return
        with contextlib.suppress(OSError):  # another rule reports a missing file
            file = Path(image.file)
            if file.stat().st_mtime_ns != mtime_ns and self._sha256(file) != answered:
                raise RejectedRow(
                    "image_changed", f"{image.file} has changed since its answer was generated: ask about it again"
                )

    def _check(self, name: str, sha256: object = None) -> TrainingImage:
        """The image that a row names by its path, absolute or relative to the first folder.

        If it is in an archive or in object storage, it is written to a file, unless one with this hash is there.

        Raises:
            RejectedRow: the image is outside the folders, or breaks a rule.
        """
        path, short = self._locate(name)
        if is_stored(path):
            try:
                path = file_of(path, self._copies.with_name("images"), sha256)
                short = Path(path).name  # a trainer finds it by this name in the folder of these files
            except OSError as error:
                raise RejectedRow("image_unreadable", f"{path}: {error}") from None
        if not self.accesses_files:
            return TrainingImage(path, short, None, path)
        if not _is_file(path):
            if self._rules.image_missing or self._reads:
                raise RejectedRow("image_missing", f"{path}: no such file")
            return TrainingImage(path, short, None, path)
        if not self._rules.open_images:
            return TrainingImage(path, short, None, path)
        try:
            used, size, look = self._plain(path)
        except ImageError as error:
            if self._rules.image_unreadable:
                raise RejectedRow("image_unreadable", str(error)) from None
            return TrainingImage(path, short, None, path)
        if self._rules.image_small:
            self._check_size(*size)
        return TrainingImage(str(used), short, size, path, look)

    def _plain(self, path: str) -> tuple[Path, tuple[int, int], int | None]:
        """The path, the size and the look of an image or of its plain copy.

        Raises:
            ImageError: the file is broken, or not an image.
        """
        looks, known = self._looks, None
        if looks is None:
            return *plain(Path(path), self._copies), None
        with contextlib.suppress(OSError):  # the file has just gone
            known = looks.find(path)
        if known is not None and (look := looks.look(known))["plain"]:
            return Path(path), (int(look["size"][0]), int(look["size"][1])), known
        taken: list[Taken] = []
        see = (lambda image, is_plain: taken.append(take(path, image, is_plain))) if known is None else None
        used, size = plain(Path(path), self._copies, see)
        return used, size, looks.add(taken[0]) if taken else known

    def _locate(self, name: str) -> tuple[str, str]:
        """The path of the image, and its name in the folder that contains it."""
        path = name if name[:1] == "/" or is_url(name) else self._roots[0] + name
        path = path if is_url(path) else os.path.normpath(path)
        if not is_utf8(path):
            raise RejectedRow("image_unreadable", f"{path}: the name is not UTF-8, so no training file can hold it")
        for folder, root in zip(self._folders, self._roots, strict=True):
            if path.startswith(root) and (not self.accesses_files or within(folder, path)):
                return path, path[len(root) :]
        raise RejectedRow("image_outside", outside_detail(self._folders[0]))

    def _check_size(self, width: int, height: int) -> None:
        side, cap = self._size_rule.token_side, self._size_rule.max_pixels
        if width * height < LEAST_TOKENS * side**2 or min(width, height) < side:
            raise RejectedRow("image_small", f"{width} x {height} pixels")
        if self._size_rule.is_too_narrow(width, height):
            raise RejectedRow(
                "image_small",
                f"{width} x {height} pixels: reduced to model.max_pixels={cap}, its shorter side is below the {side} "
                "pixels of a visual token",
            )
        if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
            raise RejectedRow(
                "image_small", f"{width} x {height} pixels: more than {MAX_ASPECT_RATIO} times longer than wide"
            )


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # the name is too long, or a folder is not accessible
        return False
