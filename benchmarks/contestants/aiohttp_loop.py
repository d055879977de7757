"""The practical upper limit: a minimal asyncio and aiohttp loop that does the same work without handling failures.

It reads and encodes each file just before its request, assembles the body as bytes, and writes each answer at once.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp
import orjson
import pybase64

HEAD = (
    b'{"model":"m","max_tokens":64,"messages":[{"role":"user","content":'
    b'[{"type":"image_url","image_url":{"url":"data:image/jpeg;base64,'
)
TAIL = b'"}},{"type":"text","text":"Describe the image."}]}]}'
HEADERS = {"Content-Type": "application/json"}


async def main(url: str, folder: Path, output: Path, in_flight: int) -> None:
    images = iter(sorted(folder.iterdir()))
    with output.open("ab", buffering=0) as rows:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def worker() -> None:
                for image in images:
                    body = b"".join((HEAD, pybase64.b64encode(image.read_bytes()), TAIL))
                    async with session.post(f"{url}/chat/completions", data=body, headers=HEADERS) as response:
                        reply = orjson.loads(await response.read())
                    answer = reply["choices"][0]["message"]["content"]
                    rows.write(orjson.dumps({"id": image.name, "answer": answer}) + b"\n")

            await asyncio.gather(*(worker() for _ in range(in_flight)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
