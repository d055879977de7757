"""Converts the chat history of the page to the messages of a request, and a reply to the content of the page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vd100k.boxes.notations import Frame
from vd100k.chat import grounding
from vd100k.images import encode, transform
from vd100k.images.resizing import SizeRule

if TYPE_CHECKING:
    from openai import OpenAI
    from PIL import Image

Message = dict[str, Any]
Part = dict[str, Any]  # a part of a message: {"type": "text", "text": …} or {"type": "file", "file": {"path": …}}


def messages(turns: Iterable[Message], system: str, rule: SizeRule) -> list[Message]:
    """The turns as OpenAI chat messages. In each, images, sized by the model's ``rule``, come before text.

    Successive user turns become one message, because chat templates require roles to alternate. Images with boxes
    and error messages, which the page adds to the history, are left out. So is a question whose request failed:
    it would make all later requests fail too.

    Raises:
        ImageError: a file is not an image.
    """
    sent: list[Message] = [{"role": "system", "content": system}] if system else []
    for turn in answered_turns(turns):
        answered = turn["role"] == "assistant"
        text = _text(turn)
        if answered:
            sent += [{"role": "assistant", "content": html.unescape(text)}] if text else []
            continue
        content = [_image(path, rule) for path in _files(turn)]
        content += [{"type": "text", "text": text}] if text else []
        if sent and sent[-1]["role"] == "user":
            sent[-1]["content"] += content
        else:
            sent.append({"role": "user", "content": content})
    return sent


def answered_turns(turns: Iterable[Message]) -> list[Message]:
    """The turns without error messages and the questions that they answer."""
    kept: list[Message] = []
    for turn in turns:
        if not (turn.get("metadata") or {}).get("title"):
            kept.append(turn)
            continue
        while kept and kept[-1]["role"] == "assistant" and not _text(kept[-1]):
            kept.pop()
        if kept and kept[-1]["role"] == "user":
            kept.pop()
    return kept


def as_shown(answer: str) -> Message:
    """An answer as a message for the page, with HTML escaped.

    Otherwise the page would render the HTML, load what it links to, and strip indentation.
    """
    return {"role": "assistant", "content": [{"type": "text", "text": html.escape(answer, quote=False)}]}


def stream(client: OpenAI, request: dict[str, Any]) -> Iterator[str]:
    """Yield the answer so far, each time the server sends more of it.

    Raises:
        openai.OpenAIError: the server refuses the request, ends the stream early, or sends something else.
    """
    import openai  # slow to import

    text = ""
    try:
        with client.chat.completions.create(**request, stream=True) as chunks:
            for chunk in chunks:
                if chunk.choices and (more := chunk.choices[0].delta.content):
                    text += more
                    yield text
    except openai.OpenAIError:
        raise
    except Exception as error:  # the client passes on whatever its decoders raise
        raise openai.OpenAIError(f"the answer of the server cannot be read: {error}") from error


def drawn(answer: str, turns: Iterable[Message], frame: Frame) -> Image.Image | None:
    """The last image of the conversation with the boxes in the answer; None if there is no image or no box."""
    paths = [path for turn in answered_turns(turns) if turn["role"] == "user" for path in _files(turn)]
    if not paths:
        return None
    last = transform.upright(paths[-1])
    boxes = frame.find(answer, last.size)
    return grounding.draw(last, boxes) if boxes else None


def _text(turn: Message) -> str:
    return "".join(part["text"] for part in turn["content"] if part["type"] == "text")


def _files(turn: Message) -> list[Path]:
    return [Path(part["file"]["path"]) for part in turn["content"] if part["type"] == "file"]


def _image(path: Path, rule: SizeRule) -> Part:
    try:
        url = encode.encode(str(path), rule).url.decode()
    except encode.ImageError as error:  # by file name only: the folder is Gradio's upload cache
        raise encode.ImageError(str(error).replace(str(path), path.name)) from error
    return {"type": "image_url", "image_url": {"url": url}}
