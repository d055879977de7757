"""A million objects in object storage: time to the first request, peak memory, and the same for a resumed run.

    python -m benchmarks.object_storage                 # 100,000 and 1,000,000 objects; takes some minutes
    python -m benchmarks.object_storage --seconds 3600  # run for up to an hour instead of a minute

A local server in a process of its own answers as S3 does: pages of a thousand names, each object the same small image.
Neither it nor the model's server has a latency. The benchmark prints a table and writes
``benchmarks/results/object_storage.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.million import command, measure
from benchmarks.server import running

HERE = Path(__file__).parent
PAGE = 1000
ETAG = "00000000000000000000000000000001"
URL = "s3://bucket/images"


class Storage(BaseHTTPRequestHandler):
    """Lists ``count`` objects, and gives the same image for each."""

    protocol_version = "HTTP/1.1"
    count = 0
    image = b""

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._send(self._page(int(query.get("continuation-token", ["0"])[0])), "application/xml")
        else:
            self._send(self.image, "image/png")

    def _page(self, start: int) -> bytes:
        end = min(start + PAGE, self.count)
        found = "".join(
            f"<Contents><Key>images/{k:07d}.png</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{ETAG}&quot;</ETag><Size>{len(self.image)}</Size></Contents>"
            for k in range(start, end)
        )
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{end}</NextContinuationToken>"
        last = "<IsTruncated>false</IsTruncated>"
        inner = f"<Name>bucket</Name><KeyCount>{end - start}</KeyCount>{more if end < self.count else last}{found}"
        return f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>{inner}</ListBucketResult>'.encode()

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{ETAG}"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def serve(port: int, count: int) -> None:
    """Serve ``count`` objects until the process ends."""
    encoded = io.BytesIO()
    Image.new("RGB", (28, 28), "red").save(encoded, "PNG")
    Storage.count, Storage.image = count, encoded.getvalue()
    server = ThreadingHTTPServer(("127.0.0.1", port), Storage)
    print(server.server_address[1], flush=True)
    server.serve_forever()


@contextlib.contextmanager
def storage(count: int) -> Iterator[None]:
    """Run the server; its address and keys are in the environment."""
    arguments = [sys.executable, "-m", "benchmarks.object_storage", "--serve", str(count)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{process.stdout.readline().strip()}"}
            os.environ |= {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
            os.environ |= {"NO_PROXY": "127.0.0.1"}
            yield
        finally:
            process.terminate()


def answer(place: Path, done: int) -> None:
    """Write a ledger with answers for the first ``done`` objects."""
    with running() as url:
        subprocess.run([*command(URL, "resumed", url), "limit=1"], cwd=place, check=True, capture_output=True)
    path = place / "outputs/data/resumed/details/gpt-4o.jsonl"
    row = orjson.loads(path.read_bytes())
    with path.open("wb") as file:
        for k in range(done):
            row |= {"id": f"{k:07d}.png", "image": f"{URL}/{k:07d}.png"}
            file.write(orjson.dumps(row) + b"\n")


def listing_s(count: int) -> float:
    """The seconds that the server needs to list all objects, without a client that does anything else."""
    began = time.monotonic()
    for start in range(0, count, PAGE):
        query = f"?list-type=2&prefix=images/&continuation-token={start}"
        urllib.request.urlopen(f"{os.environ['AWS_ENDPOINT_URL']}/bucket{query}").read()
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--seconds", type=float, default=60, help="interrupt each run after this many seconds")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "object_storage.json")
    parser.add_argument("--serve", type=int, help="only serve so many objects")
    args = parser.parse_args()
    if args.serve:
        serve(0, args.serve)
    results = []
    for count in args.images:
        with tempfile.TemporaryDirectory() as folder, storage(count):
            place = Path(folder)
            results.append(measure(place, URL, count, args.seconds) | {"done": 0, "listing_s": listing_s(count)})
            answer(place, count * 9 // 10)
            results.append(measure(place, URL, count, args.seconds, "resumed") | {"done": count * 9 // 10})
    table = Table("objects", "answered before", "first request s", "requests", "peak MB", "exit")
    for r in results:
        row = (f"{r['images']:,}", f"{r['done']:,}", f"{r['first_s']:.1f}", f"{r['requests']:,}", f"{r['peak_mb']:.0f}")
        table.add_row(*row, str(r["exit"]))
    Console().print(table)
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
