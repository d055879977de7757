"""A training row of ms-swift -> the chat requests of our clients, one for each answer of the assistant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from vd100k.images.encode import encode
from vd100k.images.resizing import SizeRule
from vd100k.io.jsonl import Row
from vd100k.parity.sample import named_images

TAG = "<image>"
PLACEHOLDER = re.compile(r"<ref-object>|<bbox>")  # ms-swift replaces them when it trains
OTHER_MEDIA = ("videos", "audios", "tools")
Message = dict[str, Any]


class NotARequest(ValueError):
    """A row that no request of our clients corresponds to; the message says why."""


@dataclass(frozen=True)
class Chat:
    """The messages of a row as a server gets them, without the assistant's last answer in ``prompts``.

    ``prompts`` has the messages before each answer. ``whole`` has all messages; it is None if ms-swift writes a part
    of an answer itself.
    """

    prompts: list[list[Message]]
    whole: list[Message] | None


def chat(row: Row, system: str | None, rule: SizeRule) -> Chat:
    """The chat of a row. ``system`` is the system prompt that clients send, which need not be that of the row.

    Images are sent as ``generate`` sends them (upright, reduced by ``rule``), in the places of their tags.

    Raises:
        NotARequest: the row has media, placeholders or roles that requests of our clients do not have.
        ImageError: an image cannot be read.
    """
    if other := [name for name in OTHER_MEDIA if row.get(name)]:
        raise NotARequest(f"the row has {other[0]}")
    turns = _turns(row)
    if any(PLACEHOLDER.search(turn["content"]) for turn in turns if turn["role"] == "user"):
        raise NotARequest("ms-swift replaces <ref-object> or <bbox> in a question")
    images = [_url(path, rule) for path in named_images(row)]
    messages = _with_images(turns, images)
    if system:
        messages.insert(0, {"role": "system", "content": system})
    prompts = [messages[:k] for k, one in enumerate(messages) if one["role"] == "assistant"]
    written = any(PLACEHOLDER.search(turn["content"]) for turn in turns)
    return Chat(prompts, None if written else messages[: len(prompts[-1]) + 1] if prompts else None)


def with_each_answer(row: Row) -> list[Row]:
    """The row, and of a preference pair also the row with the worse answer in the place of the better one.

    ``rejected_response`` is the text of that answer, or messages; it takes the place of all that follows the last
    message of the user, as in ms-swift (``TemplateInputs`` in swift/template/template_inputs.py).
    """
    worse, messages = row.get("rejected_response"), row.get("messages")
    if not worse or not isinstance(messages, list):
        return [row]
    ends = [{"role": "assistant", "content": worse}] if isinstance(worse, str) else worse
    if not isinstance(ends, list):
        raise NotARequest("rejected_response is neither a text nor a list of messages")
    asked = [k for k, one in enumerate(messages) if isinstance(one, dict) and one.get("role") == "user"]
    return [row, {**row, "messages": [*messages[: asked[-1] + 1 if asked else 0], *ends]}]


def _turns(row: Row) -> list[Message]:
    """The messages of a row without its system prompt."""
    messages = row.get("messages")
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise NotARequest("the row has no messages")
    turns = [dict(one) for one in messages if one.get("role") != "system"]
    for turn in turns:
        if turn.get("role") not in ("user", "assistant") or not isinstance(turn.get("content"), str):
            raise NotARequest(f"a message has the role {turn.get('role')}, or its content is not a text")
    return turns


def _url(path: object, rule: SizeRule) -> str:
    if not isinstance(path, str):
        raise NotARequest("an image is not named by its path")
    return encode(path, rule).url.decode()


def _with_images(turns: list[Message], urls: list[str]) -> list[Message]:
    """The turns with an image in the place of each tag; images without a tag come first, as in ms-swift."""
    tags = sum(turn["content"].count(TAG) for turn in turns)
    if tags > len(urls):
        raise NotARequest(f"the row has {tags} tags {TAG}, but {len(urls)} images")
    if turns:
        turns[0]["content"] = TAG * (len(urls) - tags) + turns[0]["content"]
    left = iter(urls)
    return [{"role": turn["role"], "content": _content(turn["content"], left)} for turn in turns]


def _content(text: str, urls: Any) -> str | list[Message]:
    if TAG not in text:
        return text
    parts: list[Message] = []
    for k, piece in enumerate(text.split(TAG)):
        if k:
            parts.append({"type": "image_url", "image_url": {"url": next(urls)}})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts
