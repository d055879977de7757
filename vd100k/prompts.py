"""(image, task) -> messages, and reply -> row. Pure."""

from __future__ import annotations

from typing import Any

from vd100k.config import Task

Message = dict[str, Any]


def messages(task: Task, image_url: str) -> list[Message]:
    """OpenAI chat messages: the system prompt if there is one, then image before text.

    Image first, so that servers with a prefix cache reuse it for every prompt about the image.
    """
    user: Message = {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": image_url}},
            {"type": "text", "text": task.prompt},
        ],
    }
    return [{"role": "system", "content": task.system_prompt}, user] if task.system_prompt else [user]


def row(task: Task, model: str, id: str, image: str, answer: str, **facts: Any) -> dict[str, Any]:
    """A row of generated data; ``question`` is the task's short one where it has one."""
    return {
        "id": id,
        "image": image,
        "question": task.question or task.prompt,
        "answer": answer,
        "model": model,
        **facts,
    }
