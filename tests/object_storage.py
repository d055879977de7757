"""A local S3 server: moto's, in an environment of its own, because it pins older versions of libraries used here."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from tests.conftest import ROOT, free_ports

MOTO = "moto[s3,server]==5.2.5"
START_S = 180  # the first time, it is installed
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True)
class Storage:
    """A running server with the bucket ``photos``."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to reach it."""
        return {**KEYS, "AWS_ENDPOINT_URL": self.endpoint}

    def put(self, key: str, content: bytes) -> None:
        obstore.put(self._bucket, key, content)

    def delete(self, key: str) -> None:
        obstore.delete(self._bucket, key)

    def upload(self, folder: Path, prefix: str) -> str:
        """Put the files of a folder below a prefix, and return its URL."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())
        return f"s3://photos/{prefix}"

    @property
    def _bucket(self) -> S3Store:
        config = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}
        return S3Store("photos", config=config, endpoint=self.endpoint, client_options={"allow_http": True})


@contextlib.contextmanager
def object_storage(folder: Path, host: str = "127.0.0.1") -> Iterator[Storage]:
    """Run the server; without ``uv`` or a package registry, the tests of it are skipped, but never in CI."""
    uv = shutil.which("uv", path=f"{ROOT / '.venv/bin'}:{os.environ['PATH']}")
    port = free_ports(1)
    command = [
        str(uv),
        "tool",
        "run",
        "--python",
        "3.11",
        "--from",
        MOTO,
        "moto_server",
        "-H",
        host,
        "-p",
        str(port),
    ]
    storage = Storage(f"http://{host}:{port}")
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log) if uv else None
        try:
            if process is None or not _answers(storage, process):
                if "CI" in os.environ:
                    raise AssertionError((folder / "moto.log").read_text(encoding="utf-8"))
                pytest.skip("moto's S3 server cannot be installed here")
            yield storage
        finally:
            if process:
                process.terminate()
                process.wait()


def _answers(storage: Storage, process: subprocess.Popen[bytes]) -> bool:
    """Make the bucket, and return whether that worked before the process ended."""
    end = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            request = urllib.request.Request(f"{storage.endpoint}/photos", method="PUT")
            urllib.request.urlopen(request, timeout=30).close()
            return True
        time.sleep(0.1)
    return False
