"""Ask an OpenAI-compatible server about one or more images with the OpenAI client, and stream the answer.

python examples/ask.py http://127.0.0.1:8000/v1 "What is it?" photo.jpg
python examples/ask.py https://api.openai.com/v1 "What differs?" one.jpg two.jpg --model gpt-4o  # OPENAI_API_KEY=…
"""

from __future__ import annotations

import argparse
import base64
import mimetypes
import os
from pathlib import Path

from openai import OpenAI


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("question")
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--model", help="default: the first model of the server")
    parser.add_argument("--max-tokens", type=int, default=512)
    args = parser.parse_args()
    client = OpenAI(base_url=args.url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
    model = args.model or client.models.list().data[0].id
    parts = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in args.images]
    content = [*parts, {"type": "text", "text": args.question}]
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": content}], max_tokens=args.max_tokens, stream=True
    )
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


def data_url(path: Path) -> str:
    mime = mimetypes.guess_type(path.name)[0] or "image/png"
    return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"


if __name__ == "__main__":
    main()
