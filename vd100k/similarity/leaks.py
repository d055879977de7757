"""Held-out images that a model was trained on, also resized, cropped or changed in another way."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from vd100k import console
from vd100k.images import transform
from vd100k.images.decode import opened
from vd100k.images.groups import ImageRef
from vd100k.io import jsonl
from vd100k.io.key_set import KeySet, row_key
from vd100k.similarity.cache import LookCache, take
from vd100k.similarity.clusters import Collection

TRAINING, HELD_OUT = 0, 1
FILES = "train.jsonl", "val.jsonl"
NAMED = 5  # pairs in a message
BLOCK = 1024  # images at a time


class Leak(NamedTuple):
    """A held-out image, and the training image that shows the same."""

    id: str
    path: str
    training: str


def trained_on(folder: Path) -> Iterable[str]:
    """The images of the training files in a folder, each once."""
    seen = KeySet()
    for name in FILES:
        for row in jsonl.read_rows(folder / name):
            images = row.get("images")
            for path in images if isinstance(images, list) else ():
                if isinstance(path, str) and seen.add(row_key(path)):
                    yield path


def find(held_out: Iterable[ImageRef], training: Iterable[str], cache: Path) -> list[Leak]:
    """The held-out images that are among the training images, in the order of their ids.

    The looks of images are kept in ``cache``. Images that cannot be read are passed over.
    """
    ids: dict[str, list[str]] = {}  # by path; several groups may have the same image
    with LookCache(cache) as looks, Collection(looks) as collection, console.progress_bar() as bar:
        task = bar.add_task("looking for copies", total=None, note="")
        for image in held_out:
            for path in image.paths:
                ids.setdefault(path, []).append(image.id)
        for side, paths in ((HELD_OUT, ids), (TRAINING, training)):
            for path, look in _looked_at(looks, paths):
                # The same file may be on both sides.
                collection.add(row_key(path, str(side)), look, side, path)
                bar.update(task, completed=len(collection))
        groups = collection.clusters() if len(collection) > len(ids) else []
    leaks = []
    for group in groups:
        training_images = [member.path for member in group if member.side == TRAINING]
        if training_images:
            shown = [(id, one.path) for one in group if one.side == HELD_OUT for id in ids[one.path]]
            leaks += [Leak(id, path, training_images[0]) for id, path in shown]
    return sorted(leaks)


def message(leaks: list[Leak], held_out: int, key: str, images: str, pairs: Path) -> str:
    """What was found, where it is written down, and what can be done."""
    named = ", ".join(f"{leak.id} (trained on as {Path(leak.training).name})" for leak in leaks[:NAMED])
    more = f" and {len(leaks) - NAMED} more" if len(leaks) > NAMED else ""
    return (
        f"{key}.images={images}: {len(leaks)} of {held_out} held-out images are among the training images, perhaps in "
        f"another size or form: {named}{more}. An evaluation with them would say too much good of the model. The pairs "
        f"are in {pairs}. Remove these images on one side, or set {key}.if_leaked=drop to leave them out here."
    )


def _looked_at(looks: LookCache, paths: Iterable[str]) -> Iterable[tuple[str, int]]:
    """The images that can be read, with the numbers of their looks."""
    remaining = iter(paths)
    with ThreadPoolExecutor() as pool:
        while block := list(islice(remaining, BLOCK)):
            numbers = pool.map(lambda path: _look(looks, path), block)
            yield from ((path, number) for path, number in zip(block, numbers, strict=True) if number is not None)


def _look(looks: LookCache, path: str) -> int | None:
    try:
        known = looks.find(path)
        if known is not None:
            return known
        with opened(path) as image, transform.memory_for(image):
            image.load()
            plain = transform.is_plain(image)
            taken = take(path, image if plain else transform.rgb(image), plain)
    except Exception:  # Pillow's decoders raise errors of many types
        return None
    return looks.add(taken)
