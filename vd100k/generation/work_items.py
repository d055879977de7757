"""What a run asks about: images, each with all the questions about it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path

from vd100k.config.checks import ASKS_FOR_QUESTION
from vd100k.config.run import Run
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.generation.progress import Progress
from vd100k.images.find import Selection, count_images, find_images
from vd100k.images.groups import ImageRef, Reject
from vd100k.images.ignored import Ignored
from vd100k.io import tables
from vd100k.io.jsonl import Fault, Row
from vd100k.io.key_set import KeySet, row_key
from vd100k.ledger.origin import base_folder, is_current
from vd100k.ledger.rows import Ledger
from vd100k.llm.prompts import Turn

FIRST_GROUPS = 1000  # examined before anything is asked; later ones with too many images are failures of their own


@dataclass(frozen=True, slots=True)
class WorkItem:
    """An image, or a group, and the questions about it; the question ``None`` is the task's own prompt.

    ``in_turn``: the questions are the turns of one conversation, which follow those in ``history``.
    """

    image: ImageRef
    questions: tuple[str | None, ...]
    in_turn: bool = False
    history: tuple[Turn, ...] = ()

    def key(self, question: str | None) -> int:
        """The key of the row that answers the question."""
        return row_key(self.image.id, question)


class OpenItems(Iterator[WorkItem]):
    """The work that is still to do; what is done, or not asked, is counted in ``progress``.

    ``part`` has the ids of the images, and of the unusable ones, that are a part of a run with several drivers.
    """

    def __init__(
        self,
        run: Run,
        ledger: Ledger,
        progress: Progress,
        retry_failed: bool,
        only: Collection[str] | None,
        part: Container[str] | None = None,
    ) -> None:
        self._ledger, self._progress, self._retry_failed, self._part = ledger, progress, retry_failed, part
        self._most_images, self._model = run.model.images_per_prompt, run.model.name
        self._rejected = KeySet()
        self._items = all_items(run, self._reject, only, ignored=progress.ignored)

    def __next__(self) -> WorkItem:
        for item in self._items:
            if self._part is not None and item.image.id not in self._part:
                continue
            if len(item.image.paths) > self._most_images:
                self._reject(item.image.id, "too_many_images", too_many_images(item.image, self._most_images))
                continue
            questions = tuple(question for question in item.questions if self._is_open(item.key(question)))
            if questions and item.in_turn:
                return self._continued(item, questions)
            if questions:
                return WorkItem(item.image, questions)
        raise StopIteration

    def _continued(self, item: WorkItem, questions: tuple[str | None, ...]) -> WorkItem:
        """The turns of a conversation without an answer; those that were answered before are their history."""
        asked = [str(question) for question in item.questions[: item.questions.index(questions[0])]]
        answers = self._ledger.answers(map(item.key, asked)) if asked else []
        return WorkItem(item.image, questions, True, tuple(zip(asked, answers, strict=False)))

    def _is_open(self, key: int) -> bool:
        self._progress.total += 1
        whole = self._ledger.whole
        if key in self._ledger.done:
            self._progress.reused += 1
            self._progress.resumed += whole is not None
            return False
        if whole and key in whole.done:
            self._progress.reused += 1
            return False
        failure = self._ledger.failed.get(key) or (whole.failed.get(key) if whole else None)
        if failure is None or failure.retryable or self._retry_failed:
            return True
        self._progress.skipped += 1
        return False

    def _reject(self, id: str, reason: str, detail: str) -> None:
        if self._part is not None and id not in self._part:
            return
        if self._rejected.add(row_key(id)):  # several lines may name the same unusable image
            self._progress.total += 1
            self._progress.skipped += 1
            self._ledger.fail(id, reason, detail, attempts=0, retryable=True)


def changed_items(
    run: Run, ledger: Ledger, progress: Progress, changed: Callable[[], KeySet], only: Collection[str] | None
) -> Iterator[WorkItem]:
    """The work whose answers are about images that have changed since; their rows are set aside in the ledger."""
    if not (found := changed()):
        return

    def items_in(keys: KeySet) -> Iterator[WorkItem]:
        for item in all_items(run, lambda *_: None, only):
            if questions := tuple(question for question in item.questions if item.key(question) in keys):
                # All turns of a conversation are about the image, so they are asked again together.
                yield item if item.in_turn else WorkItem(item.image, questions)

    selected = KeySet()  # a changed image that this run does not ask about keeps its row until another run does
    for item in items_in(found):
        for question in item.questions:
            selected.add(item.key(question))
    if selected:
        ledger.set_aside(selected)
        progress.reused -= len(selected)
        say(
            f"{len(selected):,} answers are about images that have changed since: these images are asked about again. "
            f"The old answers are kept in {ledger.outdated_path}."
        )
        yield from items_in(selected)


def unit_name(run: Run) -> str:
    """The plural noun for what a run counts: one row is made for each."""
    return "questions" if run.task.questions or run.task.turns else "groups" if run.group else "images"


def row_identity(run: Run) -> Callable[[Row], int]:
    """The function that gives a row, or a failure, its key: by its image, or by its question about the image."""
    if run.task.questions is None:
        # A failure names only a question that was asked as such, not the task's own prompt.
        return lambda row: row_key(row["id"], row.get("question") if "turn" in row or "reason" in row else None)
    return lambda row: row_key(row["id"], row.get("question"))


def count_items(run: Run) -> int:
    """About how many rows there will be."""
    assert run.images is not None
    source = run.images if run.task.questions is None else str(run.task.questions)
    return count_images(source, selection(run)) * max(1, len(run.task.turns))


def all_items(
    run: Run,
    reject: Reject,
    only: Container[str] | None = None,
    ordered: bool = False,
    ignored: Ignored | None = None,
) -> Iterator[WorkItem]:
    """All work of a run, answered or not, each image once; unusable images and lines go to ``reject``.

    ``only`` limits the images to these ids; ``ordered`` sorts them, as in ``Selection``; ``ignored`` counts the files
    that are not images.

    Raises:
        DataError: there are no images or no questions, or no question is about any of the images.
    """
    assert run.images is not None
    chosen = selection(run, ordered)
    if run.task.questions is None:
        for image in find_images(run.images, chosen, run.image_folder, reject, ignored):
            turns = image.questions or tuple(run.task.turns)
            if only is not None and image.id not in only:
                continue
            if not turns and ASKS_FOR_QUESTION.search(run.task.prompt):
                reject(image.id, "incomplete", 'the list has no "questions" for it, and the prompt asks for one')
            else:
                yield WorkItem(image, turns or (None,), in_turn=bool(turns))
        return
    # The limit counts questions here, so it does not apply to the images.
    without_limit = replace(chosen, limit=None)
    known, groups = KeySet(), dict[str, ImageRef]()
    for image in find_images(run.images, without_limit, run.image_folder, reject, ignored):
        known.add(row_key(image.id))
        if image.others:
            groups[image.id] = image
    is_empty = True
    asked = islice(_questions(run, run.task.questions, known, reject), chosen.limit)
    for item in _by_image(base_folder(run), asked, groups):
        is_empty = False
        yield item
    if is_empty:
        raise DataError(f"{run.task.questions}: no question is about an image of {run.images}. Is it the right folder?")


def too_many_images(image: ImageRef, most: int) -> str:
    """The detail of a group with more images than the model takes in one prompt."""
    return (
        f"it has {len(image.paths)} images, and the model takes {most} in one prompt: make smaller groups, or raise "
        f"model.images_per_prompt if the model and the context of its server can hold more"
    )


def group_faults(run: Run) -> Iterator[str]:
    """What to do about a group, among the first ones, that has more images than the model takes."""
    if run.group is None and Path(str(run.images)).suffix.lower() not in tables.SUFFIXES:
        return  # each image is alone
    most = run.model.images_per_prompt
    with contextlib.suppress(DataError):  # no images: reported with them
        for image in islice(find_images(str(run.images), selection(run), run.image_folder), FIRST_GROUPS):
            if len(image.paths) > most:
                yield f"images={run.images}, group {image.id}: {too_many_images(image, most)}."
                return


def missing_questions(run: Run) -> str:
    """The message of a run whose file of questions does not exist."""
    return (
        f"{run.task.questions}: the file of questions is missing. Generate the questions first: "
        f"python run.py stage=generate task=question model={run.asker or 'MODEL'} …"
    )


def selection(run: Run, ordered: bool = False) -> Selection:
    """Which images of ``run.images`` are asked about."""
    part, parts = map(int, (run.shard or "1/1").split("/"))
    return Selection(run.preview or run.limit, run.sample, run.seed, (part, parts), ordered, run.group)


def _questions(run: Run, path: Path, known: KeySet, reject: Reject) -> Iterator[tuple[str, str]]:
    """The image and the question of each line in a file of questions."""
    folder, seen = base_folder(run), KeySet()
    part, parts = selection(run).shard
    for number, row in tables.read(path, [("id",), ("question",)]):
        where = f"{path.name}, line {number}"
        if isinstance(row, Fault):
            reject(where, row.reason, row.detail)
        elif not all(isinstance(row.get(key), str) and row[key].strip() for key in ("id", "question")):
            reject(where, "incomplete", 'a question needs an "id", the image it is about, and a "question"')
        elif row_key(row["id"]) % parts != part - 1:
            continue  # another machine asks about this image
        elif row_key(row["id"]) not in known:
            reject(row["id"], "image_missing", f"{where}: there is no such image in {run.images}")
        elif not is_current(folder, row):
            reject(row["id"], "image_changed", f"{where}: the image has changed since the question was asked")
        elif seen.add(row_key(row["id"], row["question"])):
            yield row["id"], row["question"]


def _by_image(folder: str, questions: Iterable[tuple[str, str]], groups: Mapping[str, ImageRef]) -> Iterator[WorkItem]:
    """Questions grouped by image, the images in the order of their first question.

    They are sorted on disk, because a file may have all first questions before all second ones.
    """
    with sqlite3.connect("", check_same_thread=False) as table:  # a temporary file, deleted with the connection
        table.execute("CREATE TABLE questions (number INTEGER PRIMARY KEY, id BLOB, question BLOB)")
        table.executemany(
            "INSERT INTO questions (id, question) VALUES (?, ?)",
            ((_blob(id), _blob(question)) for id, question in questions),
        )
        table.execute("CREATE INDEX ids ON questions (id, number)")
        found = table.execute(
            "SELECT id, question FROM questions "
            "JOIN (SELECT id, min(number) AS first FROM questions GROUP BY id) USING (id) ORDER BY first, number"
        )
        for id, rows in groupby(found, key=lambda row: row[0]):
            name = id.decode(errors="surrogatepass")
            texts = tuple(question.decode(errors="surrogatepass") for _, question in rows)
            yield WorkItem(groups.get(name) or ImageRef(name, f"{folder}/{name}"), texts)


def _blob(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
