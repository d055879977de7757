"""The asyncio loop with the OpenAI client and its defaults, such as two retries."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path

import openai


async def main(url: str, folder: Path, output: Path, in_flight: int) -> None:
    images = iter(sorted(folder.iterdir()))
    client = openai.AsyncOpenAI(base_url=url, api_key="none")
    with output.open("a", encoding="utf-8", buffering=1) as rows:

        async def worker() -> None:
            for image in images:
                data = base64.b64encode(image.read_bytes()).decode()
                content = [
                    {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}},
                    {"type": "text", "text": "Describe the image."},
                ]
                try:
                    reply = await client.chat.completions.create(
                        model="m",
                        max_tokens=64,
                        messages=[{"role": "user", "content": content}],  # type: ignore[list-item]
                    )
                    answer = reply.choices[0].message.content
                except (openai.APIError, json.JSONDecodeError, TypeError):
                    continue
                rows.write(json.dumps({"id": image.name, "answer": answer}) + "\n")

        await asyncio.gather(*(worker() for _ in range(in_flight)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
