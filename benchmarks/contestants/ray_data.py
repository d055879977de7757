"""Ray Data asks about a folder of images: async actors behind ``map_batches``, each with a limit of requests in flight.

This is the pattern of Ray's documents for an endpoint over HTTP: ``map_batches`` with an async class, whose calls
overlap within an actor. The images are read in the actor, as vd100k reads them, so no pixels pass through the object
store. Failures are not handled.

    python ray_data.py URL FOLDER OUTPUT IN_FLIGHT ACTORS       # on the cluster that RAY_ADDRESS names
"""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import ray
import ray.data

BATCH = 32


class Asker:
    """An actor with up to ``in_flight`` requests in flight."""

    def __init__(self, url: str, in_flight: int) -> None:
        self.url, self.free = f"{url}/chat/completions", asyncio.Semaphore(in_flight)
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self.session = self.session or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        answers = await asyncio.gather(*(self.ask(path) for path in batch["item"]))
        yield {"id": [Path(path).name for path in batch["item"]], "answer": list(answers)}

    async def ask(self, path: str) -> str:
        assert self.session
        async with self.free:
            image = base64.b64encode(await asyncio.to_thread(Path(path).read_bytes)).decode()
            url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
            content = [url, {"type": "text", "text": "Describe the image."}]
            body = {"model": "m", "messages": [{"role": "user", "content": content}]}
            async with self.session.post(self.url, json=body) as response:
                reply = await response.json()
        return str(reply["choices"][0]["message"]["content"])


def main(url: str, folder: str, output: str, in_flight: str, actors: str) -> None:
    ray.init(log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    paths = sorted(str(path) for path in Path(folder).iterdir())
    asked = ray.data.from_items(paths, override_num_blocks=4 * int(actors)).map_batches(
        Asker,
        fn_constructor_args=(url, int(in_flight)),
        batch_size=BATCH,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=int(actors)),
        max_concurrency=max(2, 2 * int(in_flight) // BATCH),
    )
    Path(output).mkdir()
    asked.write_json(str(Path(output).absolute()))


if __name__ == "__main__":
    main(*sys.argv[1:])
