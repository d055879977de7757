"""Runs ``stage=serve`` with the tiny teacher while a block runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
START_S = 400


@contextlib.contextmanager
def serving(place: Path, *overrides: str) -> Iterator[Path]:
    """Start two replicas in the folder ``place``, yield the path of their output once they are ready, and stop them."""
    command = [
        *(sys.executable, str(ROOT / "run.py"), "stage=serve", "hardware=cpu", "model=tiny-teacher", "tracking=none"),
        *("hardware.replicas=2", "hardware.start_timeout_s=600", *overrides),
    ]
    output = place / "serve.txt"
    with output.open("ab") as log:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=place, stdout=log, stderr=log, env=environment)
    until = time.monotonic() + START_S
    try:
        while "Ctrl-C stops it" not in output.read_text(encoding="utf-8"):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(output.read_text(encoding="utf-8")[-3000:])
            time.sleep(1)
        yield output
    finally:
        process.terminate()
        process.wait()
