"""Images and a task -> chat messages; a reply -> a row. Pure functions."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from vd100k.config.run import Task
from vd100k.errors import DataError
from vd100k.images.encode import TINY
from vd100k.images.groups import ImageRef, as_fields

if TYPE_CHECKING:
    from jinja2 import Template

Message = dict[str, Any]
Turn = tuple[str, str]  # an earlier question of the conversation, and its answer


def text(task: Task, question: str | None = None) -> str:
    """What is asked: the prompt, whose template ``question`` fills; or the question itself if it is no template.

    Raises:
        DataError: Jinja cannot parse the template, or it uses another variable.
    """
    if "{" not in task.prompt:
        return task.prompt if question is None else question
    from jinja2 import TemplateError  # slow to import, and most prompts are not templates

    try:
        return _template(task.prompt).render({} if question is None else {"question": question})
    except TemplateError as error:
        raise DataError(f"task.prompt cannot be rendered: {error}. The only variable is {{{{ question }}}}.") from error


@functools.cache
def _template(source: str) -> Template:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(source)


def messages(
    task: Task, image_urls: Sequence[str], question: str | None = None, history: Sequence[Turn] = ()
) -> list[Message]:
    """OpenAI chat messages: the system prompt if there is one, the earlier turns, and what is asked now.

    The images come first, so that servers with a prefix cache reuse them for every prompt about them.
    """
    images: list[Message] = [{"type": "image_url", "image_url": {"url": url}} for url in image_urls]
    sent: list[Message] = [{"role": "system", "content": task.system_prompt}] if task.system_prompt else []
    for asked, answer in history:
        sent.append({"role": "user", "content": [*images, {"type": "text", "text": text(task, asked)}]})
        sent.append({"role": "assistant", "content": answer})
        images = []
    return [*sent, {"role": "user", "content": [*images, {"type": "text", "text": text(task, question)}]}]


def body(
    task: Task, model: str, question: str | None = None, images: int = 1, history: Sequence[Turn] = ()
) -> list[bytes]:
    """The JSON of a chat request in pieces, with the ``data:`` URL of an image to be put between each two.

    Such a URL needs no escaping, so the megabytes of an image never pass through a JSON encoder.
    """
    mark = uuid.uuid4().hex
    request = {"model": model, "messages": messages(task, [mark] * images, question, history), **task.sampling}
    if task.json_schema is not None:
        schema = {"name": task.name, "schema": task.json_schema, "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    return orjson.dumps(request).split(mark.encode())


def filled(pieces: Sequence[bytes], urls: Iterable[Sequence[bytes]]) -> bytes:
    """The body made of ``pieces``, with the URL of each image, itself in one or more parts, between them."""
    return b"".join([pieces[0], *(part for url, piece in zip(urls, pieces[1:], strict=True) for part in (*url, piece))])


def tiny_body(task: Task, model: str) -> bytes:
    """The JSON of a request with the task's prompt, a tiny image and a single token of answer."""
    limit = "max_completion_tokens" if "max_completion_tokens" in task.sampling else "max_tokens"
    task = task.model_copy(update={"sampling": task.sampling | {limit: 1}})
    return TINY.join(body(task, model, "?"))


def row(task: Task, model: str, image: ImageRef, question: str | None, read: Message, **facts: Any) -> Message:
    """A row of generated data; ``read`` are the fields parsed from the reply.

    Its ``question`` is the question that was answered, else the task's short question, else the prompt.
    """
    asked = question or task.question or text(task, question)
    return {"id": image.id, **as_fields(image.paths), "question": asked, **read, "model": model, **facts}
