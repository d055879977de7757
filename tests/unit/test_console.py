"""Progress output, tested in a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

SHOWS = """
from vd100k.config.run import Price
from vd100k.generation.progress import Progress, ProgressLine
from vd100k.llm.pool import Endpoint

progress = Progress("images", Price(prompt=0.5, completion=2))
progress.saved, progress.skipped = 1234, 5
progress.usage.prompt_tokens, progress.usage.completion_tokens = 1_500_000, 250_000
with ProgressLine("asking a-model-with-a-name", progress) as line:
    line.show(100_000, [Endpoint("u", 8, in_flight=8), Endpoint("v", 8, in_flight=7)])
"""


@pytest.mark.parametrize("columns", [80, 160])
def test_the_progress_line_shows_all_figures_at_any_window_width(columns: int) -> None:
    terminal, inner = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    child = subprocess.Popen([sys.executable, "-c", SHOWS], stdout=inner, stderr=inner, env=environment)
    os.close(inner)
    seen = b""
    while True:
        try:
            more = os.read(terminal, 4096)
        except OSError:  # the child has closed the terminal
            break
        if not more:
            break
        seen += more
    os.close(terminal)
    assert child.wait(10) == 0
    for part in ("1239/100000", "1.5M tokens in", "250k out", "$1.2500", "5 failed", "in flight 8+7"):
        assert part in seen.decode(), seen.decode()
