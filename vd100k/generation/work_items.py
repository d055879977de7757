"""What a run asks about: images, each with all the questions that are put about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

from vd100k.config.run import Run
from vd100k.errors import DataError
from vd100k.generation.ledger import Row
from vd100k.images import encode as images
from vd100k.images import find as listing
from vd100k.images.find import Picture, Refuse, Selection
from vd100k.io import jsonl as lines
from vd100k.io import key_set as keys


@dataclass(frozen=True, slots=True)
class Work:
    """An image and the questions about it; ``None`` stands for the task's own prompt."""

    picture: Picture
    questions: tuple[str | None, ...]

    def key(self, question: str | None) -> int:
        """Of the row that answers the question."""
        return keys.key(self.picture.id, question)


def things(run: Run) -> str:
    """What is counted."""
    return "images" if run.task.questions is None else "questions"


def selection(run: Run, ordered: bool = False) -> Selection:
    """Which of the images the run is for."""
    k, n = map(int, (run.shard or "1/1").split("/"))
    return Selection(run.preview or run.limit, run.sample, run.seed, (k, n), ordered)


def base(run: Run) -> Path:
    """The folder that the images' ids are relative to."""
    source = Path(run.images or "").expanduser()
    if source.is_dir():
        return source.absolute()
    return (run.image_folder or source.parent).absolute()


def identify(run: Run) -> Callable[[Row], int]:
    """The key of a row of the run: its image's, or that of its question about the image."""
    if run.task.questions is None:
        return lambda row: keys.key(row["id"])
    return lambda row: keys.key(row["id"], row.get("question"))


def every(run: Run, refuse: Refuse, only: Container[str] | None = None, ordered: bool = False) -> Iterator[Work]:
    """All there is to ask about, each image once, whatever was answered; what leads to nothing goes to ``refuse``.

    ``only`` limits the images to those ids; ``ordered`` as in ``Selection``.

    Raises:
        DataError: no images, no questions, or none of these about any of those.
    """
    assert run.images is not None
    chosen = selection(run, ordered)
    if run.task.questions is None:
        for picture in listing.find(run.images, chosen, run.image_folder, refuse):
            if only is None or picture.id in only:
                yield Work(picture, (None,))
        return
    if not run.task.questions.exists():
        raise DataError(
            f"{run.task.questions}: no questions there. Have a model ask them first: "
            f"python run.py stage=generate task=question model={run.asker or 'MODEL'} …"
        )
    # The limit counts questions here, so it is not for the images.
    of_images = Selection(None, chosen.sample, chosen.seed, chosen.shard)
    known = keys.Keys()
    for picture in listing.find(run.images, of_images, run.image_folder, refuse):
        known.add(keys.key(picture.id))
    some = False
    for work in _by_image(base(run), islice(_asked(run, known, refuse), chosen.limit)):
        some = True
        yield work
    if not some:
        raise DataError(f"{run.task.questions}: no question about any image of {run.images}. Is it the right folder?")


def about(run: Run) -> int:
    """About how many rows there are to be."""
    assert run.images is not None
    source = run.images if run.task.questions is None else str(run.task.questions)
    return listing.count(source, selection(run))


def _asked(run: Run, known: keys.Keys, refuse: Refuse) -> Iterator[tuple[str, str]]:
    """Image and question of each line in the run's file of questions."""
    assert run.task.questions is not None
    folder, seen = base(run), keys.Keys()
    for number, row in lines.read(run.task.questions):
        where = f"{run.task.questions.name}, line {number}"
        if isinstance(row, lines.Fault):
            refuse(where, row.reason, row.detail)
        elif not all(isinstance(row.get(key), str) and row[key].strip() for key in ("id", "question")):
            refuse(where, "incomplete", 'a question has an "id", the image it is about, and a "question"')
        elif keys.key(row["id"]) not in known:
            refuse(row["id"], "image_missing", f"{where}: no such image in {run.images}")
        elif not images.unchanged(f"{folder}/{row['id']}", row):
            refuse(row["id"], "image_changed", f"{where}: it is about another image of that name")
        elif seen.add(keys.key(row["id"], row["question"])):
            yield row["id"], row["question"]


def _by_image(folder: Path, asked: Iterable[tuple[str, str]]) -> Iterator[Work]:
    """The questions brought together by image, images in the order of their first question.

    They are sorted on disk: a file may have all first questions before all second ones.
    """
    with sqlite3.connect("", check_same_thread=False) as table:  # a temporary file, gone with the connection
        table.execute("CREATE TABLE asked (number INTEGER PRIMARY KEY, id BLOB, question BLOB)")
        table.executemany(
            "INSERT INTO asked (id, question) VALUES (?, ?)",
            ((_blob(id), _blob(question)) for id, question in asked),
        )
        table.execute("CREATE INDEX ids ON asked (id, number)")
        found = table.execute(
            "SELECT id, question FROM asked JOIN (SELECT id, min(number) AS first FROM asked GROUP BY id) USING (id) "
            "ORDER BY first, number"
        )
        for id, rows in groupby(found, key=lambda row: row[0]):
            name = id.decode(errors="surrogatepass")
            questions = tuple(question.decode(errors="surrogatepass") for _, question in rows)
            yield Work(Picture(name, f"{folder}/{name}"), questions)


def _blob(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
