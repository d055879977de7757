"""Check which request formats of clients of earlier Qwen-VL servers a server understands.

    python examples/dialects.py http://127.0.0.1:8000/v1 photo.jpg other.jpg

There are two families: the API demo of Qwen-VL (parts of type ``image``, an empty ``functions``, ``stop``, ``top_p``,
``temperature``, ``stream``), and TensorRT-LLM servers with OpenAI's parts of type ``image_url`` (several turns with a
question for a box, ``file://`` images, the OpenAI client, streaming). The outcome of each request is printed.
"""

from __future__ import annotations

import argparse
import base64
import json
import mimetypes
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openai import OpenAI, OpenAIError

TIMEOUT_S = 120
Message = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("images", nargs=2, type=Path)
    parser.add_argument("--model", help="default: the first model of the server")
    args = parser.parse_args()
    for name, outcome in tried(args.url, args.images[0], args.images[1], args.model).items():
        print(f"{name}: {outcome}")


def tried(url: str, first: Path, second: Path, model: str | None = None) -> dict[str, str]:
    """The outcome of each request: ``answered: …``, or ``refused: …`` with the server's message."""
    server = Server(url, model)
    one, two = data_url(first), data_url(second)
    turns: list[Message] = [
        {"role": "assistant", "content": "A woman and her dog on a beach."},
        {"role": "user", "content": "Output the box of the dog."},
    ]
    asked: dict[str, Callable[[], str]] = {
        "models": lambda: ", ".join(server.models()),
        "type image, functions": lambda: server.ask([user("What is it?", image=one), *turns], **DEMO),
        "type image, functions, streamed": lambda: server.ask(
            [user("What is it?", image=one), *turns], **DEMO | {"stream": True}
        ),
        "image_url, stop, top_p, temperature": lambda: server.ask(
            [user("What is it?", url=one)], stop=["\n\n"], top_p=0.9, temperature=0.7
        ),
        "image_url, several turns, a box": lambda: server.ask([user("What is it?", url=one), *turns]),
        "two images": lambda: server.ask([user("What differs?", url=one, other=two)]),
        "two file:// images": lambda: server.ask([user("What differs?", url=file_url(first), other=file_url(second))]),
        "OpenAI client": lambda: server.client(user("What is it?", url=one), stream=False),
        "OpenAI client, streamed": lambda: server.client(user("What is it?", url=one), stream=True),
    }
    return {name: _outcome(ask) for name, ask in asked.items()}


DEMO = {"functions": [], "stop": [], "top_p": 0.9, "temperature": 0.7, "stream": False}


def user(text: str, *, image: str | None = None, url: str | None = None, other: str | None = None) -> Message:
    """A user message with images, as parts of type ``image`` or ``image_url``."""
    parts: list[Message] = [{"type": "image", "image": image}] if image else []
    parts += [{"type": "image_url", "image_url": {"url": address}} for address in (url, other) if address]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


class Server:
    """A server: its address, the key from OPENAI_API_KEY, and the model to use."""

    def __init__(self, url: str, model: str | None) -> None:
        self.url, self.key = url.rstrip("/"), os.environ.get("OPENAI_API_KEY", "none")
        self.model = model or self.models()[0]

    def models(self) -> list[str]:
        return [model["id"] for model in json.loads(self._send("/models", None))["data"]]

    def ask(self, messages: list[Message], **options: Any) -> str:
        """Send a plain JSON request, as curl does."""
        body = {"model": self.model, "messages": messages, "max_tokens": 32, **options}
        reply = self._send("/chat/completions", json.dumps(body).encode())
        if not options.get("stream"):
            return str(json.loads(reply)["choices"][0]["message"]["content"])
        lines = [line[6:] for line in reply.decode().splitlines() if line.startswith("data: {")]
        chunks = [json.loads(line)["choices"] for line in lines]
        return "".join(choices[0]["delta"].get("content") or "" for choices in chunks if choices)

    def client(self, message: Message, *, stream: bool) -> str:
        client = OpenAI(base_url=self.url, api_key=self.key, max_retries=0, timeout=TIMEOUT_S)
        messages: Any = [message]
        if not stream:
            reply = client.chat.completions.create(model=self.model, messages=messages, max_tokens=32)
            return reply.choices[0].message.content or ""
        chunks = client.chat.completions.create(model=self.model, messages=messages, max_tokens=32, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    def _send(self, path: str, body: bytes | None) -> bytes:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        request = urllib.request.Request(self.url + path, body, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            content: bytes = reply.read()
            return content


def _outcome(ask: Callable[[], str]) -> str:
    try:
        return f"answered: {ask()}"
    except urllib.error.HTTPError as error:
        return f"refused: {error.code} {error.read().decode(errors='replace')[:200]}"
    except (OpenAIError, OSError, ValueError, LookupError) as error:
        return f"refused: {error}"


def data_url(path: Path) -> str:
    mime = mimetypes.guess_type(path.name)[0] or "image/png"
    return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"


def file_url(path: Path) -> str:
    return f"file://{path.absolute()}"


if __name__ == "__main__":
    main()
