"""(image, task) -> messages, and what was answered -> row. Pure."""

from __future__ import annotations

import functools
import uuid
from typing import TYPE_CHECKING, Any

import orjson

from vd100k.config.run import Task
from vd100k.errors import DataError

if TYPE_CHECKING:
    from jinja2 import Template

Message = dict[str, Any]
Halves = tuple[bytes, bytes]


def text(task: Task, question: str | None = None) -> str:
    """The task's prompt; ``question`` fills the template where the task answers questions.

    Raises:
        DataError: a template that Jinja cannot read, or that names something else.
    """
    if "{" not in task.prompt:
        return task.prompt
    from jinja2 import TemplateError  # only now, as most prompts are no templates

    try:
        return _template(task.prompt).render({} if question is None else {"question": question})
    except TemplateError as error:
        raise DataError(f"task.prompt cannot be filled in: {error}. It may name {{{{ question }}}} only.") from error


@functools.cache
def _template(source: str) -> Template:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(source)


def messages(task: Task, image_url: str, question: str | None = None) -> list[Message]:
    """OpenAI chat messages: the system prompt if there is one, then image before text.

    Image first, so that servers with a prefix cache reuse it for every prompt about the image.
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
    """The JSON of a chat request in two halves; ``data:`` URLs need no escaping, the image's goes between them.

    An image is encoded once and asked about without its megabytes going through a JSON encoder.
    """
    mark = uuid.uuid4().hex
    request = {"model": model, "messages": messages(task, mark, question), **task.sampling}
    if task.json_schema is not None:
        described = {"name": task.name, "schema": task.json_schema, "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": described}
    before, _, after = orjson.dumps(request).partition(mark.encode())
    return before, after


def row(task: Task, model: str, id: str, image: str, question: str | None, read: Message, **facts: Any) -> Message:
    """A row of generated data: what was ``read`` from the reply, beside what it answers.

    Its ``question`` is the one answered, the task's short one, or the prompt, in that order.
    """
    asked = question or task.question or text(task, question)
    return {"id": id, "image": image, "question": asked, **read, "model": model, **facts}
