"""The folder, or URL, that rows are about. Of two with the same name, the second is refused before anything is sent."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from vd100k.config.run import Run
from vd100k.errors import DataError
from vd100k.images.encode import are_unchanged, is_unchanged
from vd100k.images.groups import SEPARATOR, names
from vd100k.images.paths import base_of, folder_of, is_same
from vd100k.io import jsonl, tables
from vd100k.io.jsonl import Row
from vd100k.io.key_set import OffsetIndex, row_key
from vd100k.ledger.partial import PARTIAL
from vd100k.stores import files, listing, urls

FIRST = 20  # rows of each file that are compared with the folder


def base_folder(run: Run) -> str:
    """The folder, or the URL, that the ids of images are relative to."""
    images = run.images or ""
    is_list = Path(images).suffix.lower() in tables.SUFFIXES and not Path(images).expanduser().is_dir()
    return folder_of(images, run.image_folder) if is_list else base_of(images)


def refuse_other_folder(run: Run) -> None:
    """Refuse a folder whose rows would be added to those of another folder that happens to have the same name.

    A folder that was moved, or copied to another machine, has the same images, so its rows are its own.

    Raises:
        DataError: none of the first rows is about an image in the folder of this run.
    """
    if not run.images or not (urls.is_url(run.images) or Path(base_folder(run)).exists()):  # finding the images says so
        return
    folder = base_folder(run)
    for path in _ledgers(run.paths.rows):
        rows = list(islice(_valid_rows(path), FIRST))
        others = [origin for row in rows if (origin := _origin(row)) and not is_same(origin, folder)]
        if others and len(others) == len(rows) and not any(_has(folder, row) for row in rows):
            raise DataError(
                f"{path} holds answers about the images of {others[0]}, but images={run.images} is {folder}, and none "
                f"of the images compared is in it. Nothing was sent.\n"
                f"Both are called {run.dataset}. Give the images of this run a name of their own: dataset=NAME."
            )


def _ledgers(rows: Path) -> list[Path]:
    """The rows of a run, and those of its previews and shards, which it joins."""
    parts = sorted(rows.parent.glob(f"{glob.escape(rows.stem)}.*.jsonl"))
    joined = [path for path in parts if PARTIAL.fullmatch(path.stem.removeprefix(rows.stem))]
    return [rows, *joined] if rows.exists() else joined


def _valid_rows(path: Path) -> Iterator[Row]:
    return (row for _, row in jsonl.read(path) if isinstance(row, dict) and isinstance(row.get("id"), str))


def _origin(row: Row) -> str | None:
    """The folder of the images that a row's id is relative to; None if its id, as that of a list, does not tell."""
    paths = names(row)
    ids = [row["id"]] if len(paths) == 1 else str(row["id"]).split(SEPARATOR)
    ends = len(ids) == len(paths) and all(path.endswith(f"/{id}") for path, id in zip(paths, ids, strict=True))
    return paths[0].removesuffix(f"/{ids[0]}") if ends and paths else None


def _has(folder: str, row: Row) -> bool:
    return files.exists(f"{folder}/{row['id']}") and is_current(folder, row)


def comparison(run: Run) -> Callable[[Row], bool]:
    """The function that says whether the images of a row are as they were when it was answered.

    What is in object storage is listed once for all rows, a thousand objects a request.
    """
    folder = base_folder(run)
    return listed_versions(folder) if urls.is_url(folder) else partial(is_current, folder)


def listed_versions(url: str) -> Callable[[Row], bool]:
    """``is_current`` for rows about images below a URL; an object whose ETag has changed is read."""
    known = OffsetIndex()

    def is_listed(path: str, etag: object) -> bool:
        return known.find(row_key(path)) == row_key(str(etag))

    def compare(row: Row) -> bool:
        if not len(known):
            try:
                for name, etag in listing.versions(url):
                    known.add(row_key(f"{url}/{name}"), row_key(etag))
            except urls.StoreError as error:
                raise DataError(f"{url}: {error}.") from error
        etags = row.get("images_etag") if "images" in row else [row.get("image_etag")]
        recorded = isinstance(etags, list) and len(etags) == len(names(row))
        if recorded and all(map(is_listed, names(row), etags or ())):
            return True
        return is_current(url, row)

    return compare


def is_current(folder: str, row: Row) -> bool:
    """Whether the image of a row in ``folder``, or the images of its group, are as they were when it was answered."""
    return are_unchanged(row) if "images" in row else is_unchanged(f"{folder}/{row['id']}", row)
