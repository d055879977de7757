"""An image and a task -> chat messages; a reply -> a row. Pure functions."""

from __future__ import annotations

import functools
import uuid
from typing import TYPE_CHECKING, Any

import orjson

from vd100k.config.run import Task
from vd100k.errors import DataError
from vd100k.images.encode import TINY

if TYPE_CHECKING:
    from jinja2 import Template

Message = dict[str, Any]
Halves = tuple[bytes, bytes]


def text(task: Task, question: str | None = None) -> str:
    """The task's prompt; ``question`` fills the template if the task answers questions.

    Raises:
        DataError: Jinja cannot parse the template, or it uses another variable.
    """
    if "{" not in task.prompt:
        return task.prompt
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


def messages(task: Task, image_url: str, question: str | None = None) -> list[Message]:
    """OpenAI chat messages: the system prompt if there is one, then the image before the text.

    The image comes first so that servers with a prefix cache reuse it for every prompt about the image.
    """
    user: Message = {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": image_url}},
            {"type": "text", "text": text(task, question)},
        ],
    }
    return [{"role": "system", "content": task.system_prompt}, user] if task.system_prompt else [user]


def body(task: Task, model: str, question: str | None = None) -> Halves:
    """The JSON of a chat request in two halves, with the ``data:`` URL of the image to be put between them.

    Such a URL needs no escaping, so the megabytes of an image never pass through a JSON encoder.
    """
    mark = uuid.uuid4().hex
    request = {"model": model, "messages": messages(task, mark, question), **task.sampling}
    if task.json_schema is not None:
        schema = {"name": task.name, "schema": task.json_schema, "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    before, _, after = orjson.dumps(request).partition(mark.encode())
    return before, after


def tiny_body(task: Task, model: str) -> bytes:
    """The JSON of a request with the task's own prompt, a tiny image and a single token of answer."""
    limit = "max_completion_tokens" if "max_completion_tokens" in task.sampling else "max_tokens"
    task = task.model_copy(update={"sampling": task.sampling | {limit: 1}})
    before, after = body(task, model, "?" if task.questions else None)
    return before + TINY + after


def row(task: Task, model: str, id: str, image: str, question: str | None, read: Message, **facts: Any) -> Message:
    """A row of generated data; ``read`` are the fields parsed from the reply.

    Its ``question`` is the question that was answered, else the task's short question, else the prompt.
    """
    asked = question or task.question or text(task, question)
    return {"id": id, "image": image, "question": asked, **read, "model": model, **facts}
