"""A typical script: threads with ``requests``; a failed image is printed and skipped."""

from __future__ import annotations

import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests


def ask(url: str, image: Path) -> str | None:
    data = base64.b64encode(image.read_bytes()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}},
        {"type": "text", "text": "Describe the image."},
    ]
    try:
        reply = requests.post(
            f"{url}/chat/completions",
            json={"model": "m", "max_tokens": 64, "messages": [{"role": "user", "content": content}]},
            timeout=60,
        ).json()
        return str(reply["choices"][0]["message"]["content"])
    except (requests.RequestException, KeyError) as error:
        print(f"{image.name}: {error}", file=sys.stderr)
        return None


def main(url: str, folder: Path, output: Path, threads: int) -> None:
    images = sorted(folder.iterdir())
    with output.open("a", encoding="utf-8", buffering=1) as rows, ThreadPoolExecutor(threads) as pool:
        for image, answer in zip(images, pool.map(lambda image: ask(url, image), images), strict=True):
            if answer is not None:
                rows.write(json.dumps({"id": image.name, "answer": answer}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
