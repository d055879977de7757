"""The counts of a run add up: images = rows + failed + open, whatever happened to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chat_server import Reply, chat_server
from tests.conftest import command_line, draw_pictures
from tests.unit.generation.test_run import ask, asking, rows, summary

Result = subprocess.CompletedProcess[str]


def counts(folder: Path) -> dict[str, Any]:
    found = summary(folder)["counts"]
    assert found["images"] == found["rows"] + found["failed"] + found["open"], found
    assert min(found["rows"], found["failed"], found["open"], found["reused"]) >= 0, found
    return found


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_images_are_rows_and_failures_and_open(seed: int) -> None:
    """Random runs over the same list: bad lines, failures, limits, edits, shards, previews, too many failures."""
    random = Random(seed)
    with tempfile.TemporaryDirectory() as name, chat_server(lambda n, body: reply(random)) as server:
        folder = Path(name)
        draw_pictures(folder / "pictures", 6)
        (folder / "pictures/broken.png").write_bytes(b"no image")
        images = [f"pictures/{path.name}" for path in sorted((folder / "pictures").iterdir())]
        lines = [json.dumps({"image": image}) for image in [*images, "pictures/00.png", "/etc/passwd"]] + ["{", "{}"]
        (folder / "list.jsonl").write_text("\n".join(lines), encoding="utf-8")
        for _ in range(4):
            if random.random() < 0.3:
                draw_pictures(folder / "pictures", 1, seed=random.randrange(100))
            extra = random.choice([[], ["limit=3"], ["preview=2"], ["shard=1/2"], ["sample=4"], ["stage.sorted=true"]])
            command = command_line(*asking(server), "images=list.jsonl", "stage.max_retries=0", *extra)
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
            assert "Traceback" not in done.stderr
            assert counts(folder)["open"] == 0, done.stdout
        done = subprocess.run(command_line(*asking(server), "images=list.jsonl"), cwd=folder, check=False)
        found = counts(folder)
        files = {kind: folder / f"outputs/data/list/details/gpt-4o.{kind}" for kind in ("jsonl", "failures.jsonl")}
        lines_of = {kind: file.read_text().count("\n") for kind, file in files.items()}
        assert lines_of == {"jsonl": found["rows"], "failures.jsonl": found["failed"]}


def reply(random: Random) -> Reply:
    return random.choice(["a", "a", "a", (400, {}, "{}"), (500, {}, "{}")])


def test_joined_rows_are_counted_once(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    with chat_server(lambda n, body: "a") as server:
        for shard in ("1/2", "2/2"):
            ask(vd100k, server, f"shard={shard}")
        done = ask(vd100k, server)
        assert "6 rows (6 reused, 0 failed)" in done.stdout
    assert counts(tmp_path) | {"images": 6, "rows": 6, "reused": 6, "open": 0} == counts(tmp_path)


def test_an_interrupted_run_has_open_images(tmp_path: Path, pictures: Path) -> None:
    def script(n: int, body: dict[str, Any]) -> Reply:
        if n == 2:
            os.kill(process.pid, 1)
        return "a"

    with chat_server(script) as server:
        command = command_line(*asking(server), "stage.max_in_flight=1")
        process = subprocess.Popen(command, cwd=tmp_path, stdout=sys.stderr)
        assert process.wait(60) == 129, "a lost connection (SIGHUP) ends a run like Ctrl-C"
    found = counts(tmp_path)
    assert found["rows"] == len(rows(tmp_path)) == 3, "the answer in flight is kept"
    assert summary(tmp_path)["status"] == "interrupted"


def test_a_missing_image_leaves_the_failures_once_its_question_is_answered(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    questions = [{"id": name, "question": "What?"} for name in ("00.png", "new.png")]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions), encoding="utf-8")
    with chat_server(lambda n, body: "a") as server:
        ask(vd100k, server, "task=answer", "task.questions=q.jsonl")
        assert counts(tmp_path) | {"images": 2, "rows": 1, "failed": 1} == counts(tmp_path)
        (pictures / "05.png").rename(pictures / "new.png")
        ask(vd100k, server, "task=answer", "task.questions=q.jsonl")
    assert counts(tmp_path) | {"images": 2, "rows": 2, "failed": 0} == counts(tmp_path)
    failures = tmp_path / "outputs/data/pictures/answer/gpt-4o.failures.jsonl"
    assert not failures.read_bytes()


@pytest.mark.parametrize("ending", ["\n\n", '{"id": "x'])
def test_blank_and_torn_lines_disturb_neither_a_dry_run_nor_the_sorted_file(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path, ending: str
) -> None:
    with chat_server(lambda n, body: "a") as server:
        ask(vd100k, server, "limit=4")
        with (tmp_path / "outputs/data/pictures/details/gpt-4o.jsonl").open("a", encoding="utf-8") as file:
            file.write(ending)
        assert "rows pending: 2 of 6" in ask(vd100k, server, "dry_run=true").stdout
        done = ask(vd100k, server, "stage.sorted=true")
        assert done.returncode == 0, done.stderr
    assert [row["id"] for row in rows(tmp_path, "gpt-4o.sorted.jsonl")] == sorted(p.name for p in pictures.iterdir())
