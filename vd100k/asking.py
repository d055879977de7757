"""Ask a model about every image of a run that has no answer yet, into the run's ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import TaskID

from vd100k import fingerprint, lines, models, prompts
from vd100k.client import Client, Refused, may_pass
from vd100k.config import Generate, Run
from vd100k.console import progress, say
from vd100k.errors import DataError
from vd100k.images import ImageError, Picture, Refuse, data_url, find, identity, unchanged
from vd100k.records import Ledger, Row
from vd100k.server import Fleet, fleet

LOG_EVERY = 0.1  # share of the images between two lines where there is no terminal
MILLION = 1_000_000


@dataclass
class Counts:
    """How many images (or questions about images) there were, and what became of them; ``cost`` in USD."""

    images: int = 0
    rows: int = 0
    reused: int = 0
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None

    def update(self, run: Run, client: Client) -> None:
        """Count what the client has sent and got so far, and what that costs."""
        self.requests = client.requests
        self.prompt_tokens, self.completion_tokens = client.prompt_tokens, client.completion_tokens
        if price := run.model.price:
            spent = self.prompt_tokens * price.prompt + self.completion_tokens * price.completion
            self.cost = round(spent / MILLION, 6)

    def spent(self) -> str:
        """Tokens and cost so far, in words."""
        cost = "" if self.cost is None else f", ${self.cost:.4f}"
        return f"{self.prompt_tokens:,} tokens in, {self.completion_tokens:,} out{cost}"


@dataclass(frozen=True)
class Item:
    """What one request is about: an image, and the question where the task answers questions."""

    picture: Picture
    question: str | None = None

    @property
    def key(self) -> Hashable:
        return self.picture.id if self.question is None else (self.picture.id, self.question)


def settings(run: Run) -> dict[str, Any]:
    """What decides the answers: rows made with other settings are other rows."""
    return {
        "model": fingerprint.of_model(run.model_path) if run.hardware.urls is None else run.served_name,
        "system_prompt": run.task.system_prompt,
        "prompt": run.task.prompt,
        "question": run.task.question,
        "questions": str(run.task.questions) if run.task.questions else None,
        "sampling": run.task.sampling,
        "max_pixels": run.model.max_pixels,
    }


def ask_all(run: Run, logs: Path, counts: Counts, only: Container[str] | None = None) -> None:
    """Ask about each image once; what was answered before is reused and costs nothing.

    ``counts`` is kept up to date, however this ends. ``only`` limits the images to those ids.

    Raises:
        DataError: no images, or rows made with other settings or of other images.
        ServerError: no server, or one that refuses us; the answers so far are kept.
    """
    stage = run.stage
    assert isinstance(stage, Generate)
    refused: list[tuple[str, str, str]] = []
    todo = items(run, lambda *why: refused.append(why), only)
    paths = {item.picture.id: item.picture.path for item in todo}
    keys = {item.key for item in todo}
    counts.images = len(todo)
    if run.hardware.urls is None:
        models.ensure(run)  # before its fingerprint is taken

    def current(row: Row) -> bool:
        return row["id"] not in paths or unchanged(paths[row["id"]], row)

    with Ledger(run.paths.rows, settings(run), stage.if_changed, current, run.key, identify(run)) as ledger:
        counts.reused = counts.rows = len(keys & ledger.done)
        if counts.reused:
            say(f"{counts.reused} of {counts.images} {_things(run)} are answered already: {run.paths.rows}")
        for id, reason, detail in refused:
            if id not in ledger.failed:
                ledger.fail(id, reason, detail, attempts=0)
        final = {key for key, reason in ledger.failed.items() if not (stage.retry_failed or may_pass(reason))}
        todo = [item for item in todo if item.key not in final and item.key not in ledger.done]
        try:
            if todo:
                with fleet(run, logs) as servers:
                    asyncio.run(_ask(run, servers, todo, ledger, counts))
        finally:
            counts.rows = len(keys & ledger.done)
            counts.failed = len(keys & ledger.failed.keys()) + len(refused)
    if counts.failed:
        say(
            f"{counts.failed} {_things(run)} have no answer, reasons in {ledger.failures_path}; "
            f"{run.key}.retry_failed=true asks them again."
        )


def identify(run: Run) -> Callable[[Row], Hashable]:
    """What a row of the run answers: its image, or its question about the image."""
    if run.task.questions is None:
        return lambda row: row["id"]
    return lambda row: (row["id"], row["question"]) if "question" in row else row["id"]


def items(run: Run, refuse: Refuse, only: Container[str] | None = None) -> list[Item]:
    """What is to be asked about, images in order; lines that lead to nothing go to ``refuse``.

    Raises:
        DataError: no images, no questions, or none of these about any of those.
    """
    assert run.images is not None
    if run.task.questions is None:
        pictures = find(run.images, run.limit, run.image_folder, refuse)
        return [Item(picture) for picture in pictures if only is None or picture.id in only]
    if not run.task.questions.exists():
        raise DataError(
            f"{run.task.questions}: no questions there. Have a model ask them first: "
            f"python run.py stage=generate task=question model={run.asker or 'MODEL'} …"
        )
    pictures = find(run.images, None, run.image_folder, refuse)
    asked = _asked(run, {picture.id: picture for picture in pictures}, refuse)
    found = list(dict.fromkeys(asked))[: run.limit]
    if not found:
        raise DataError(f"{run.task.questions}: no question about any image of {run.images}. Is it the right folder?")
    return found


def _asked(run: Run, pictures: dict[str, Picture], refuse: Refuse) -> Iterator[Item]:
    """The questions in the run's file of them."""
    assert run.task.questions is not None
    for number, row in lines.read(run.task.questions):
        where = f"{run.task.questions.name}, line {number}"
        if isinstance(row, lines.Fault):
            refuse(where, row.reason, row.detail)
        elif not all(isinstance(row.get(key), str) and row[key].strip() for key in ("id", "question")):
            refuse(where, "incomplete", 'a question has an "id", the image it is about, and a "question"')
        elif row["id"] not in pictures:
            refuse(row["id"], "image_missing", f"{where}: no such image in {run.images}")
        elif not unchanged(pictures[row["id"]].path, row):
            refuse(row["id"], "image_changed", f"{where}: it is about another image of that name")
        else:
            yield Item(pictures[row["id"]], row["question"])


async def _ask(run: Run, servers: Fleet, todo: list[Item], ledger: Ledger, counts: Counts) -> None:
    """All of ``todo``, at most ``max_in_flight`` at a time; the first hopeless error ends it."""
    stage = run.stage
    assert isinstance(stage, Generate)
    waiting = iter(todo)
    async with Client(servers.urls, run.model, run.served_name, stage) as client:
        with progress() as bar:
            line = bar.add_task(f"asking {run.served_name}", total=len(todo), note="")

            async def worker() -> None:
                for item in waiting:  # shared: each goes to one worker
                    await _ask_one(run, client, item, ledger)
                    counts.update(run, client)
                    _report(run, bar, line, len(todo), counts)

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(stage.max_in_flight, len(todo))):
                        group.create_task(worker())
            except* Exception as errors:
                counts.update(run, client)
                servers.check()  # if a replica died, its own last words say more
                raise errors.exceptions[0] from None


async def _ask_one(run: Run, client: Client, item: Item, ledger: Ledger) -> None:
    picture, question = item.picture, item.question
    try:
        url, facts = await asyncio.to_thread(_read, picture.path, run.model.max_pixels)
    except ImageError as error:
        ledger.fail(picture.id, "image_unreadable", str(error), 0, question)
        return
    try:
        answer = await client.ask(prompts.messages(run.task, url, question), run.task.sampling, run.task.reader)
    except Refused as error:
        ledger.fail(picture.id, error.reason, str(error), error.attempts, question)
        return
    facts["finish_reason"] = answer.finish_reason
    path = str(picture.path.absolute())
    ledger.append(prompts.row(run.task, run.model.name, picture.id, path, question, answer.fields, **facts))


def _read(path: Path, max_pixels: int) -> tuple[str, dict[str, Any]]:
    """What is sent of an image, and what its row keeps of it."""
    return data_url(path, max_pixels), identity(path)


def _report(run: Run, bar: Any, line: TaskID, total: int, counts: Counts) -> None:
    bar.update(line, advance=1, note=counts.spent())
    done = int(bar.tasks[line].completed)
    if bar.disable and done % max(1, round(total * LOG_EVERY)) == 0:
        say(f"  {done}/{total} {_things(run)}, {counts.spent()}")


def _things(run: Run) -> str:
    return "images" if run.task.questions is None else "questions"


def refuse_if_all_failed(run: Run, counts: Counts) -> None:
    """Raise DataError when not one image was answered: what follows would have nothing to work on."""
    if not counts.rows:
        raise DataError(
            f"None of the {counts.images} {_things(run)} of {run.images} was answered. "
            f"The reasons: {run.paths.rows.with_suffix('')}.failures.jsonl"
        )
