"""Ask a model about every image of a run that has no answer yet, into the run's ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import TaskID

from vd100k import fingerprint, models, prompts
from vd100k.client import Client, Refused, may_pass
from vd100k.config import Generate, Run
from vd100k.console import progress, say
from vd100k.errors import DataError
from vd100k.images import ImageError, Picture, data_url, find, identity, unchanged
from vd100k.records import Ledger, Row
from vd100k.server import Fleet, fleet

LOG_EVERY = 0.1  # share of the images between two lines where there is no terminal


@dataclass
class Counts:
    """How many images there were, and what became of them."""

    images: int = 0
    rows: int = 0
    reused: int = 0
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def settings(run: Run) -> dict[str, Any]:
    """What decides the answers: rows made with other settings are other rows."""
    return {
        "model": fingerprint.of_model(run.model_path) if run.hardware.urls is None else run.served_name,
        "system_prompt": run.task.system_prompt,
        "prompt": run.task.prompt,
        "question": run.task.question,
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
    assert run.images is not None
    pictures = [p for p in find(run.images, run.limit) if only is None or p.id in only]
    paths = {picture.id: picture.path for picture in pictures}
    counts.images = len(pictures)
    if run.hardware.urls is None:
        models.ensure(run)  # before its fingerprint is taken

    def current(row: Row) -> bool:
        return row["id"] not in paths or unchanged(paths[row["id"]], row)

    with Ledger(run.paths.rows, settings(run), stage.if_changed, current, run.key) as ledger:
        counts.reused = counts.rows = sum(id in ledger.done for id in paths)
        if counts.reused:
            say(f"{counts.reused} of {counts.images} images are answered already: {run.paths.rows}")
        final = {id for id, reason in ledger.failed.items() if not (stage.retry_failed or may_pass(reason))}
        todo = [picture for picture in pictures if picture.id not in final and picture.id not in ledger.done]
        try:
            if todo:
                with fleet(run, logs) as servers:
                    asyncio.run(_ask(run, servers, todo, ledger, counts))
        finally:
            counts.rows = sum(id in ledger.done for id in paths)
            counts.failed = sum(id in ledger.failed for id in paths)
    if counts.failed:
        say(
            f"{counts.failed} images have no answer, reasons in {ledger.failures_path}; "
            f"{run.key}.retry_failed=true asks them again."
        )


async def _ask(run: Run, servers: Fleet, todo: list[Picture], ledger: Ledger, counts: Counts) -> None:
    """All of ``todo``, at most ``max_in_flight`` at a time; the first hopeless error ends it."""
    stage = run.stage
    assert isinstance(stage, Generate)
    waiting = iter(todo)
    async with Client(servers.urls, run.model, run.served_name, stage) as client:
        with progress() as bar:
            line = bar.add_task(f"asking {run.served_name}", total=len(todo), note="")

            async def worker() -> None:
                for picture in waiting:  # shared: each image goes to one worker
                    await _ask_one(run, client, picture, ledger, counts)
                    counts.requests = client.requests
                    _report(bar, line, len(todo), counts)

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(stage.max_in_flight, len(todo))):
                        group.create_task(worker())
            except* Exception as errors:
                counts.requests = client.requests
                servers.check()  # if a replica died, its own last words say more
                raise errors.exceptions[0] from None


async def _ask_one(run: Run, client: Client, picture: Picture, ledger: Ledger, counts: Counts) -> None:
    try:
        url, facts = await asyncio.to_thread(_read, picture.path, run.model.max_pixels)
    except ImageError as error:
        ledger.fail(picture.id, "image_unreadable", str(error), attempts=0)
        return
    try:
        answer = await client.ask(prompts.messages(run.task, url), run.task.sampling)
    except Refused as error:
        ledger.fail(picture.id, error.reason, str(error), error.attempts)
        return
    counts.prompt_tokens += answer.prompt_tokens
    counts.completion_tokens += answer.completion_tokens
    facts["finish_reason"] = answer.finish_reason
    path = str(picture.path.absolute())
    ledger.append(prompts.row(run.task, run.model.name, picture.id, path, answer.text, **facts))


def _read(path: Path, max_pixels: int) -> tuple[str, dict[str, Any]]:
    """What is sent of an image, and what its row keeps of it."""
    return data_url(path, max_pixels), identity(path)


def _report(bar: Any, line: TaskID, total: int, counts: Counts) -> None:
    tokens = f"{counts.prompt_tokens:,} tokens in, {counts.completion_tokens:,} out"
    bar.update(line, advance=1, note=tokens)
    done = int(bar.tasks[line].completed)
    if bar.disable and done % max(1, round(total * LOG_EVERY)) == 0:
        say(f"  {done}/{total} images, {tokens}")


def refuse_if_all_failed(run: Run, counts: Counts) -> None:
    """Raise DataError when not one image was answered: what follows would have nothing to work on."""
    if not counts.rows:
        raise DataError(
            f"None of the {counts.images} images of {run.images} was answered. "
            f"The reasons: {run.paths.rows.with_suffix('')}.failures.jsonl"
        )
