"""All requests about one image, from its file to the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from vd100k.boxes import frames
from vd100k.config.run import Run
from vd100k.errors import ServerError
from vd100k.generation.progress import Progress
from vd100k.generation.work_items import WorkItem
from vd100k.generation.workers import Workers
from vd100k.images.encode import Encoded, ImageError, encode, facts_of
from vd100k.images.paths import folder_of, links_outside, outside_detail
from vd100k.images.resizing import SizeRule
from vd100k.io.jsonl import Row
from vd100k.ledger.rows import Ledger
from vd100k.llm import prompts, readers
from vd100k.llm.client import AccessDenied, Client, RequestError, Unreachable, wait_s
from vd100k.llm.pool import Lease, Stopped
from vd100k.llm.prompts import Turn

JUDGED_FOR_S = 5.0  # how long a judgement about the key holds


@dataclass(slots=True)
class Prepared:
    """A work item whose images can be sent; or, if ``encoded`` is empty, the reason and the detail why they cannot."""

    item: WorkItem
    encoded: list[Encoded]
    reason: str = ""
    detail: str = ""


class Requester:
    """Prepares images, and asks all questions about each until it is answered or has failed permanently."""

    def __init__(
        self, run: Run, max_retries: int, ledger: Ledger, progress: Progress, client: Client, workers: Workers
    ) -> None:
        self._run, self._max_retries, self._ledger, self._progress = run, max_retries, ledger, progress
        self._client, self._workers = client, workers
        self._size_rule = SizeRule.of(run.model)
        self.folder = folder_of(run.images or "", run.image_folder)
        self._frame = frames.of(run.model) if run.task.reader == "boxes" else None
        self._tiny_body = prompts.tiny_body(run.task, run.served_name)
        self._judging = asyncio.Lock()
        self._judged: dict[str, tuple[float, bool]] = {}  # by URL: when, and whether the key was allowed
        self._own_prompts: dict[int, list[bytes]] = {}  # by the number of images

    def prepare(self, item: WorkItem) -> Prepared:
        """Read, check and encode an image, or all images of a group; called in a thread."""
        if self._frame and item.image.others:
            return Prepared(item, [], "too_many_images", "an answer with boxes does not say in which image they are")
        encoded = []
        for path in item.image.paths:
            if links_outside(self.folder, path):
                return Prepared(item, [], "image_outside", f"{path}: {outside_detail(self.folder)}")
            try:
                encoded.append(encode(path, self._size_rule, measure=self._frame is not None))
            except ImageError as error:
                return Prepared(item, [], "image_unreadable", str(error))
        return Prepared(item, encoded)

    async def ask_about(self, prepared: Prepared, lease: Lease) -> None:
        """Ask the first question, then all others together at the endpoint that now has the image in its caches.

        One after another would leave the server's batches empty; all at once would make it compute the
        image for each.
        """
        item, encoded, prepared.encoded = prepared.item, prepared.encoded, []
        if not encoded:
            for question in item.questions:
                # Whoever repairs the image expects that the next run asks about it.
                self._fail(item, question, prepared.reason, prepared.detail, attempts=0, retryable=True)
            return
        if item.in_turn:
            await self._converse(item, encoded, lease)
            return
        first, *others = item.questions
        facts = facts_of(encoded)
        if not others:
            body = self._body(first, encoded)
            for image in encoded:
                image.base64 = b""  # the body holds it now
            await self._ask(item, facts, first, lambda: body, lease)
            return
        await self._ask(item, facts, first, partial(self._body, first, encoded), lease)
        lease.release()  # for the other questions, which are served before new images
        async with asyncio.TaskGroup() as group:
            for question in others:
                group.create_task(self._ask_beside(item, encoded, question, lease))

    async def _converse(self, item: WorkItem, encoded: list[Encoded], lease: Lease) -> None:
        """Ask the questions one after another, each with all earlier ones and their answers before it."""
        history = list(item.history)
        for number, question in enumerate(item.questions):
            facts = {**facts_of(encoded), "turn": len(history) + 1}
            answer = await self._ask(item, facts, question, partial(self._body, question, encoded, history), lease)
            if answer is None:
                if failure := self._ledger.failed.get(item.key(question)):  # else the run has ended
                    for later in item.questions[number + 1 :]:
                        detail = f"an earlier question of the conversation has no answer: {failure.reason}"
                        self._fail(item, later, "earlier_turn", detail, 0, failure.retryable)
                return
            history.append((str(question), answer))

    def _body(self, question: str | None, encoded: list[Encoded], history: Sequence[Turn] = ()) -> bytes:
        count = len(encoded)
        if question is None:
            if count not in self._own_prompts:
                self._own_prompts[count] = prompts.body(self._run.task, self._run.served_name, None, count)
            pieces = self._own_prompts[count]
        else:
            pieces = prompts.body(self._run.task, self._run.served_name, question, count, history)
        # A whole URL would be another copy.
        return prompts.filled(pieces, ((image.head, image.base64) for image in encoded))

    async def _ask_beside(self, item: WorkItem, encoded: list[Encoded], question: str | None, lease: Lease) -> None:
        with contextlib.suppress(Stopped):
            async with lease.sibling() as own:
                await self._ask(item, facts_of(encoded), question, partial(self._body, question, encoded), own)

    async def _ask(
        self, item: WorkItem, facts: Row, question: str | None, body: Callable[[], bytes], lease: Lease
    ) -> str | None:
        """Send a request until it is answered or has failed permanently; return the answer, if there is one.

        ``body`` makes its body, which exists only while it is sent: fifty questions about a photo would
        otherwise hold fifty copies of it.
        """
        attempts = 0
        while not self._workers.end:
            attempts += 1
            error: str | RequestError | None
            try:
                error = await self._attempt(item, facts, question, body(), lease)
            except AccessDenied as denied:
                error = await self._judge(denied, lease.url)
            except ServerError as fatal:  # the paid requests in flight are finished before the run ends
                self._workers.stop(fatal)
                return None
            if not isinstance(error, RequestError):
                return error
            if isinstance(error, Unreachable):
                attempts -= 1
            if not error.retryable or attempts > self._max_retries:
                self._fail(item, question, error.reason, str(error), attempts, error.next_run)
                return None
            await self._workers.wait_for_retry(lease, wait_s(attempts, error.after_s))
        return None

    async def _attempt(
        self, item: WorkItem, facts: Row, question: str | None, body: bytes, lease: Lease
    ) -> str | RequestError:
        """Send a request once and record its answer, which is returned; or return why there is none."""
        began, task = time.monotonic(), self._run.task
        try:
            reply = await self._client.ask(lease.url, body)
            complete = reply.finish_reason != "length"
            locate = partial(self._frame.read, size=facts["image_size"]) if self._frame else None
            fields = readers.read(task.reader, reply.text, complete, task.json_schema, locate)
        except readers.ParseError as error:
            lease.record("answered", time.monotonic() - began)
            return RequestError("not_as_asked", f"{error}: {reply.text[:200]}", retryable=True)
        except RequestError as error:
            lease.record(error.outcome, time.monotonic() - began)
            return error
        lease.record("answered", time.monotonic() - began)
        facts = {**facts, "finish_reason": reply.finish_reason, "completion_tokens": reply.completion_tokens}
        known = {"system_fingerprint": reply.system_fingerprint, "logprobs": reply.logprobs}
        facts |= {name: value for name, value in known.items() if value}
        self._ledger.append(prompts.row(task, self._run.model.name, item.image, question, fields, **facts))
        self._progress.answered += 1
        return str(fields["answer"])

    async def _judge(self, denied: AccessDenied, url: str) -> RequestError | None:
        """Whether a 403 is about this image (moderation, a firewall) or about the key, which ends the run.

        A tiny request tells: the server refuses it only if the key may not use the model any more.
        """
        async with self._judging:
            if self._workers.end:
                return None
            if not self._client.accepted:
                self._workers.stop(denied)
                return None
            judged_at, allowed = self._judged.get(url, (-math.inf, False))
            fresh = time.monotonic() > judged_at + JUDGED_FOR_S
            if fresh:
                try:
                    await self._client.ask(url, self._tiny_body)
                    allowed = True
                except ServerError as fatal:
                    self._workers.stop(fatal)
                    return None
                except RequestError as unknown:
                    allowed = unknown.reason == "empty_answer"  # which is an answer, for a single token
                self._judged[url] = time.monotonic(), allowed
        # The key may have been revoked since the last judgement: then the next run asks again.
        return RequestError("http_403", denied.detail, retryable=not allowed, next_run=not (fresh and allowed))

    def _fail(
        self, item: WorkItem, question: str | None, reason: str, detail: str, attempts: int, retryable: bool = False
    ) -> None:
        self._ledger.fail(item.image.id, reason, detail, attempts, question, retryable)
        self._progress.fail(reason, detail)
