"""All that is asked about one image, from its file to the ledger."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from vd100k.config.run import Run
from vd100k.config.stages import Generate
from vd100k.errors import DataError
from vd100k.generation import work_items as work
from vd100k.generation.ledger import Ledger, Row
from vd100k.generation.work_items import Work, things
from vd100k.images import encode as images
from vd100k.images import find as listing
from vd100k.llm import prompts
from vd100k.llm import readers as replies
from vd100k.llm.client import Client, Refused, Unreachable, wait_s
from vd100k.llm.pool import Place, Stopped

ENOUGH = 50  # rows, before their failures are weighed


@dataclass(slots=True)
class Ready:
    """An image that can be sent, or why it cannot."""

    work: Work
    encoded: images.Encoded | None
    fault: tuple[str, str] = ("", "")


class Tally:
    """How many were answered in this run, and how many failed for which reason."""

    def __init__(self) -> None:
        self.answered = 0
        self.reasons: collections.Counter[str] = collections.Counter()
        self._detail: dict[str, str] = {}

    @property
    def failed(self) -> int:
        return self.reasons.total()

    def fail(self, reason: str, detail: str) -> None:
        self.reasons[reason] += 1
        self._detail.setdefault(reason, detail)

    def refuse_more_than(self, most: float, run: Run, path: Path) -> None:
        """Raise DataError when more fails than the run is to go on with; ``path`` is where the failures are."""
        tried = self.failed + self.answered
        if tried >= ENOUGH and self.failed > most * tried:
            reason, times = self.reasons.most_common(1)[0]
            raise DataError(
                f"Stopped: {self.failed} of {tried} {things(run)} failed, more than "
                f"{run.key}.max_failure_rate={most:g} allows.\n"
                f"The commonest reason, {times} times, is {reason}: {self._detail[reason]}\n"
                f"All are in {path}. What was answered is kept."
            )


class Inquiry:
    """Makes an image ready, and asks all its questions, each until it is answered or refused for good.

    ``step_back(place, seconds)`` is how to wait before asking again, and ``stopping`` says that nothing
    more is to be begun.
    """

    def __init__(
        self,
        run: Run,
        ledger: Ledger,
        client: Client,
        tally: Tally,
        step_back: Callable[[Place, float], Awaitable[None]],
        stopping: asyncio.Event,
    ) -> None:
        assert isinstance(run.stage, Generate)
        self._run, self._stage, self._ledger, self._client, self._tally = run, run.stage, ledger, client, tally
        self._step_back, self._stopping = step_back, stopping
        self._folder = str((run.image_folder or work.base(run)).absolute())
        self._own = prompts.body(run.task, run.served_name) if run.task.questions is None else None

    def prepare(self, todo: Work) -> Ready:
        """In a thread: the image read, checked and encoded."""
        path = todo.picture.path
        if listing.leads_out(self._folder, path):
            return Ready(todo, None, ("image_outside", listing.outside(Path(self._folder))))
        try:
            return Ready(todo, images.encode(path, self._run.model.max_pixels))
        except images.ImageError as error:
            return Ready(todo, None, ("image_unreadable", str(error)))

    async def ask_about(self, ready: Ready, place: Place) -> None:
        """The first question about an image, then the others together, at the endpoint that has it in its caches."""
        todo, encoded, ready.encoded = ready.work, ready.encoded, None
        if encoded is None:
            for question in todo.questions:
                self._fail(todo, question, *ready.fault, attempts=0)
            return
        bodies = [(question, self._body(question, encoded)) for question in todo.questions]
        encoded.base64 = b""  # not held twice while the answers are awaited
        (first, body), *others = bodies
        del bodies
        await self._ask(todo, encoded.facts, first, body, place)
        if others:
            place.leave()  # to the others, who go before new images
            async with asyncio.TaskGroup() as group:
                for question, body in others:
                    group.create_task(self._ask_beside(todo, encoded.facts, question, body, place))

    def _body(self, question: str | None, encoded: images.Encoded) -> bytes:
        before, after = self._own or prompts.body(self._run.task, self._run.served_name, question)
        return b"".join((before, encoded.head, encoded.base64, after))  # not its url: one copy less

    async def _ask_beside(self, todo: Work, facts: Row, question: str | None, body: bytes, place: Place) -> None:
        with contextlib.suppress(Stopped):
            async with place.another() as own:
                await self._ask(todo, facts, question, body, own)

    async def _ask(self, todo: Work, facts: Row, question: str | None, body: bytes, place: Place) -> None:
        """Until it is answered, or refused for good."""
        attempts = 0
        while not self._stopping.is_set():
            attempts += 1
            refused = await self._attempt(todo, facts, question, body, place)
            if refused is None:
                return
            if isinstance(refused, Unreachable):
                attempts -= 1  # it never got there
            if not refused.again or attempts > self._stage.max_retries:
                self._fail(todo, question, refused.reason, str(refused), attempts)
                return
            await self._step_back(place, wait_s(attempts, refused.after_s))

    async def _attempt(self, todo: Work, facts: Row, question: str | None, body: bytes, place: Place) -> Refused | None:
        """Ask once, and keep the answer; or why there is none."""
        began = time.monotonic()
        try:
            reply = await self._client.ask(place.url, body)
            whole = reply.finish_reason != "length"
            fields = replies.read(self._run.task.reader, reply.text, whole, self._run.task.json_schema)
        except replies.Unread as error:
            place.note("answered", time.monotonic() - began)
            return Refused("not_as_asked", f"{error}: {reply.text[:200]}", again=True)
        except Refused as refused:
            place.note(refused.outcome, time.monotonic() - began)
            return refused
        place.note("answered", time.monotonic() - began)
        id, path = todo.picture.id, todo.picture.path
        facts = {**facts, "finish_reason": reply.finish_reason, "completion_tokens": reply.completion_tokens}
        self._ledger.append(prompts.row(self._run.task, self._run.model.name, id, path, question, fields, **facts))
        self._tally.answered += 1
        return None

    def _fail(self, todo: Work, question: str | None, reason: str, detail: str, attempts: int) -> None:
        self._ledger.fail(todo.picture.id, reason, detail, attempts, question)
        self._tally.fail(reason, detail)
