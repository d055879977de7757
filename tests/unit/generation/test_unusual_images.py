"""Files that are no ordinary images neither end nor block a run; many questions about a photo take little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.chat_server import chat_server
from tests.conftest import command_line
from tests.unit.generation.test_run import ask, asking, rows

Result = subprocess.CompletedProcess[str]


def failures(folder: Path, dataset: str = "pictures") -> dict[str, str]:
    path = folder / f"outputs/data/{dataset}/details/gpt-4o.failures.jsonl"
    return {row["id"]: row["reason"] for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def test_a_pipe_a_device_and_a_link_to_itself_are_refused_one_by_one(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    os.mkfifo(pictures / "pipe.png")
    (pictures / "loop.jpg").symlink_to("loop.jpg")
    names = ["pipe.png", "loop.jpg", "00.png"]
    (tmp_path / "pictures/list.jsonl").write_text("".join(json.dumps({"image": n}) + "\n" for n in names))
    with chat_server(lambda n, body: "a") as server:
        done = ask(vd100k, server, timeout=60)
        assert done.returncode == 0, done.stderr
        assert len(rows(tmp_path)) == 6
        assert failures(tmp_path) == {"loop.jpg": "image_unreadable"}
        done = ask(vd100k, server, "images=pictures/list.jsonl", timeout=60)
        assert done.returncode == 0, done.stderr
    assert failures(tmp_path, "list") == {"pipe.png": "image_unreadable", "loop.jpg": "image_outside"}


def test_names_that_are_not_utf8_are_refused_once_and_never_mixed_up(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    for name in (b"caf\xe9.png", b"caf\xe8.png", b"caf\\xe9.png"):
        Image.new("RGB", (56, 56), "red").save(pictures / "new.png")
        (pictures / "new.png").rename(pictures / os.fsdecode(name))
    with chat_server(lambda n, body: "a") as server:
        for _ in range(2):
            done = ask(vd100k, server)
            assert done.returncode == 0, done.stderr
            assert failures(tmp_path) == {"./caf\\xe9.png": "image_name", "./caf\\xe8.png": "image_name"}
            assert len(server.requests) == 6 + 1, "an image whose name only looks like that is asked about once"
    assert len(rows(tmp_path)) == 7


def test_a_repaired_image_is_asked_about_by_the_next_run(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    (pictures / "00.png").write_bytes(b"half an image")
    with chat_server(lambda n, body: "a") as server:
        ask(vd100k, server)
        assert failures(tmp_path) == {"00.png": "image_unreadable"}
        Image.new("RGB", (56, 56), "red").save(pictures / "00.png")
        ask(vd100k, server)
    assert not failures(tmp_path)
    assert len(rows(tmp_path)) == 6


def test_memory_grows_with_the_requests_in_flight_and_not_with_the_questions(tmp_path: Path) -> None:
    """40 questions about each of two photos of 3 MB: 40 copies of a photo would take 320 MB."""
    (tmp_path / "pictures").mkdir()
    questions = []
    for k in range(2):
        Image.frombytes("RGB", (1000, 1000), os.urandom(3_000_000)).save(tmp_path / f"pictures/{k}.png")
        questions += [{"id": f"{k}.png", "question": f"Question {n}?"} for n in range(40)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions), encoding="utf-8")
    settings = ["task=answer", "task.questions=q.jsonl", "stage.max_in_flight=2", "model.max_pixels=2000000"]
    with chat_server(lambda n, body: "a") as server:
        command = command_line(*asking(server), *settings)
        measure = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr);"
        measure += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
        done = subprocess.run(
            [sys.executable, "-c", measure, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 80
    assert int(done.stdout) < 180, "MB"
