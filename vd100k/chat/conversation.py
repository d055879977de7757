"""What was said on the page, as a server wants to hear it, and what becomes of the answer."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from vd100k.chat import grounding
from vd100k.images import encode as images
from vd100k.images import transform as pixels

if TYPE_CHECKING:
    from openai import OpenAI

Message = dict[str, Any]
Part = dict[str, Any]  # of a message: {"type": "text", "text": …} or {"type": "file", "file": {"path": …}}


def messages(turns: Iterable[Message], system: str, max_pixels: int) -> list[Message]:
    """OpenAI chat messages of all turns; in each, images (of ``max_pixels`` at most) come before text.

    Neighbours of one role are one message, since chat templates want roles to take turns. What we
    put beside a model's answers, pictures with boxes and errors, is left out, and a question that
    got no answer too: what was wrong with it would be wrong for ever.

    Raises:
        ImageError: a file that is no image.
    """
    said: list[Message] = [{"role": "system", "content": system}] if system else []
    for turn in answered_turns(turns):
        answered = turn["role"] == "assistant"
        text = _text(turn)
        if answered:
            said += [{"role": "assistant", "content": html.unescape(text)}] if text else []
            continue
        content = [_image(path, max_pixels) for path in _files(turn)]
        content += [{"type": "text", "text": text}] if text else []
        if said and said[-1]["role"] == "user":
            said[-1]["content"] += content
        else:
            said.append({"role": "user", "content": content})
    return said


def answered_turns(turns: Iterable[Message]) -> list[Message]:
    """The turns without those that only say why there is no answer, and the questions before them."""
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
    """An answer as the page takes it: of a plain text it would show HTML, fetch what that names, and cut indents."""
    return {"role": "assistant", "content": [{"type": "text", "text": html.escape(answer, quote=False)}]}


def stream(client: OpenAI, request: dict[str, Any]) -> Iterator[str]:
    """The answer so far, whenever there is more of it.

    Raises:
        openai.OpenAIError: the server refuses, or breaks off.
    """
    text = ""
    with client.chat.completions.create(**request, stream=True) as chunks:
        for chunk in chunks:
            if chunk.choices and (more := chunk.choices[0].delta.content):
                text += more
                yield text


def drawn(answer: str, turns: Iterable[Message], max_pixels: int) -> Image.Image | None:
    """The picture sent last with the boxes that the answer names; None if it names none."""
    paths = [path for turn in answered_turns(turns) if turn["role"] == "user" for path in _files(turn)]
    if not paths:
        return None
    with Image.open(paths[-1]) as image:
        picture = pixels.rgb(image)
    boxes = grounding.find(answer, picture.size, max_pixels)
    return grounding.draw(picture, boxes) if boxes else None


def _text(turn: Message) -> str:
    return "".join(part["text"] for part in turn["content"] if part["type"] == "text")


def _files(turn: Message) -> list[Path]:
    return [Path(part["file"]["path"]) for part in turn["content"] if part["type"] == "file"]


def _image(path: Path, max_pixels: int) -> Part:
    try:
        url = images.encode(str(path), max_pixels).url.decode()
    except images.ImageError as error:  # by its own name: where the page keeps it says nothing
        raise images.ImageError(str(error).replace(str(path), path.name)) from error
    return {"type": "image_url", "image_url": {"url": url}}
