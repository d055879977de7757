"""The minimal loop with requests sent to the servers in turn, like a load balancer without image affinity.

``python round_robin.py URL,URL FOLDER QUESTIONS IN_FLIGHT MAX_TOKENS``: QUESTIONS is a JSONL file with ``id`` and
``question``, sent in the order of the file. Prints the seconds it took.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path

import aiohttp
import pybase64


async def main(urls: list[str], folder: Path, questions: Path, in_flight: int, max_tokens: int) -> None:
    turns = itertools.cycle(urls)
    asked = iter(questions.read_text(encoding="utf-8").splitlines())
    began = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4)) as session:

        async def worker() -> None:
            for line in asked:
                row = json.loads(line)
                data = pybase64.b64encode((folder / row["id"]).read_bytes()).decode()
                content = [
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
                    {"type": "text", "text": row["question"]},
                ]
                body = {
                    "model": "tiny-teacher",
                    "max_tokens": max_tokens,
                    "temperature": 0,
                    "messages": [{"role": "user", "content": content}],
                }
                async with session.post(f"{next(turns)}/chat/completions", json=body) as response:
                    response.raise_for_status()
                    await response.read()

        await asyncio.gather(*(worker() for _ in range(in_flight)))
    print(time.perf_counter() - began)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1].split(","), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])))
