"""The walks in ``examples/``: each command is run in order, with a local server in place of GPT."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.first_minutes import as_here, commands, draw_photos
from tests.chat_server import chat_server
from tests.conftest import ROOT

WALKS = sorted((ROOT / "examples").glob("*.md"))


@pytest.mark.parametrize("walk", WALKS, ids=lambda path: path.stem)
def test_every_command_of_a_walk_runs_in_order(walk: Path, tmp_path: Path) -> None:
    draw_photos(tmp_path / "photos")
    env = {**os.environ, "OPENAI_API_KEY": "of-the-local-server"}
    lines = commands(walk)
    assert lines
    with chat_server(lambda n, body: f"A picture, answer {n}.") as server:
        for line in lines:
            if "images=outputs/" in (here := as_here(line, server.url)):
                continue  # documents that an earlier command would have drawn, were it no dry run
            command = [sys.executable, ROOT / "run.py", *shlex.split(here)[2:], "tracking=none"]
            done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    if walk.stem.startswith("photos"):
        assert len((tmp_path / "outputs/data/photos/details/gpt-4o.jsonl").read_text().splitlines()) == 20
