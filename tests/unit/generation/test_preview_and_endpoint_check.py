"""The checks before and during a long run that costs money: a preview, a tiny request, the disk, failures."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chat_server import Reply, chat_server
from tests.conftest import command_line, draw_pictures
from tests.unit.generation.test_run import ask, asking, rows, summary

Result = subprocess.CompletedProcess[str]
SCHEMA = "{type: object, required: [colour], properties: {colour: {type: string}}, additionalProperties: false}"


def test_a_preview_shows_images_with_answers_that_the_run_reuses(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: "<script>alert(1)</script> a house") as server:
        done = ask(vd100k, server, "preview=2")
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 2
        assert "a house" in done.stdout
        page = (tmp_path / "outputs/latest/preview.html").read_text(encoding="utf-8")
        assert page.count('src="data:image/webp;base64,') == 2
        assert page.count("Describe this image") == 1, "a prompt that all images share is shown once"
        assert "&lt;script&gt;" in page
        assert "<script>alert" not in page
        assert "script-src 'sha256-" in page
        done = ask(vd100k, server, "preview=2", "task.prompt='What else?'")
        assert done.returncode == 0, "a preview with another prompt is not refused"
        assert ask(vd100k, server).returncode == 0
        assert len(server.requests) == 2 + 2 + 6
        assert ask(vd100k, server, "preview=3").returncode == 0
        assert ask(vd100k, server, "dataset=fresh", "preview=2").returncode == 0
        before = len(server.requests)
        done = ask(vd100k, server, "dataset=fresh")
        assert "2 rows joined from gpt-4o.preview.jsonl" in done.stdout
        assert len(server.requests) == before + 4


def test_a_tiny_request_is_sent_first(vd100k: Callable[..., Result], pictures: Path, tmp_path: Path) -> None:
    with chat_server(lambda n, body: "a") as server:
        assert ask(vd100k, server, "stage.check=true", "stage.max_in_flight=1").returncode == 0
        tiny = server.requests[0]
        assert tiny["max_tokens"] == 1
        assert tiny["messages"][-1]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
        assert len(server.requests) == 1 + 6
        assert ask(vd100k, server, "stage.check=true").returncode == 0
        assert len(server.requests) == 1 + 6, "nothing is sent if all images are answered"


@pytest.mark.parametrize(
    ("status", "message", "shown"),
    [
        (404, "The model `m` does not exist.", "It serves other, not m."),
        (400, "m is not a multimodal model", "m is not a multimodal model"),
        (401, "invalid api key", "the key is not accepted"),
    ],
)
def test_an_unsuitable_server_is_detected_by_the_tiny_request(
    vd100k: Callable[..., Result], pictures: Path, status: int, message: str, shown: str
) -> None:
    error: Reply = (status, {}, json.dumps({"error": {"message": message}}))
    with chat_server(lambda n, body: error, name="other") as server:
        done = ask(vd100k, server, "stage.check=true")
        assert len(server.requests) == 1
    assert done.returncode == 1
    assert shown in done.stderr


def test_a_run_stops_if_too_many_images_fail(vd100k: Callable[..., Result], tmp_path: Path) -> None:
    draw_pictures(tmp_path / "pictures", 300)

    def script(n: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.05)
        return (400, {}, '{"error": {"message": "content policy"}}') if n % 2 else "a"

    with chat_server(script) as server:
        done = ask(vd100k, server, "stage.max_in_flight=4")
        assert len(server.requests) < 200
    assert done.returncode == 1
    assert "max_failure_rate=0.3" in done.stderr
    assert "http_400: content policy" in done.stderr
    counts = summary(tmp_path)["counts"]
    assert counts["requests"] == counts["rows"] + counts["failed"], "replies to requests in flight are kept"


def test_a_run_does_not_start_on_a_nearly_full_disk(vd100k: Callable[..., Result], pictures: Path) -> None:
    done = ask(vd100k, "http://127.0.0.1:9/v1", "stage.min_free_disk_mb=1000000000")
    assert done.returncode == 1
    assert "less than stage.min_free_disk_mb=1000000000" in done.stderr


def test_ctrl_c_twice_stops_at_once(tmp_path: Path, pictures: Path) -> None:
    reached = threading.Event()

    def hang(n: int, body: dict[str, Any]) -> Reply:
        if n == 1:
            reached.set()
            time.sleep(20)
        return "a"

    with chat_server(hang) as server:
        command = command_line(*asking(server), "stage.max_in_flight=1")
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            assert reached.wait(60)
            began = time.monotonic()
            os.kill(process.pid, 2)
            time.sleep(0.5)
            os.kill(process.pid, 2)
            output, _ = process.communicate(timeout=15)
        assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert "Stopping once the 1 requests in flight are finished" in output
    assert len(rows(tmp_path)) == 1


def test_answers_are_validated_against_the_schema(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    replies = ['{"colour": 7}', '{"colour": "red"}']
    with chat_server(lambda n, body: replies[min(n, 1)]) as server:
        options = ["task=vqa", "task.prompt='Colour?'", "task.reader=json", "limit=1"]
        done = ask(vd100k, server, *options, f"task.schema={SCHEMA}")
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 2, "an answer that does not fit the schema is retried"
        asked = server.requests[0]["response_format"]
        assert (asked["type"], asked["json_schema"]["schema"]["required"]) == ("json_schema", ["colour"])
        done = ask(vd100k, server, *options, "+task.schema.type=9", "task.reader=text")
        assert "task.schema is not a valid JSON schema" in done.stderr
        assert "set task.reader=json" in done.stderr


def test_shards_are_joined_and_the_sorted_file_has_the_order_of_the_images(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: f"answer {n}") as server:
        for k in (1, 2):
            done = ask(vd100k, server, f"shard={k}/2")
            assert done.returncode == 0, done.stderr
        assert len(server.requests) == 6, "no image is in two shards"
        done = ask(vd100k, server, "stage.sorted=true")
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 6
        assert [row["id"] for row in rows(tmp_path, "gpt-4o.sorted.jsonl")] == sorted(
            p.name for p in pictures.iterdir()
        )
        sampled = ask(vd100k, server, "sample=2", "dataset=sampled")
        again = ask(vd100k, server, "sample=2", "dataset=sampled")
        assert (sampled.returncode, again.returncode) == (0, 0)
        assert len(server.requests) == 6 + 2
    for key in ("shard=3/2", "shard=x"):
        assert "shard" in ask(vd100k, "http://127.0.0.1:9/v1", key).stderr
    assert (
        "is for stage=generate and stage=verify only" in vd100k("stage=convert", "dataset=pictures", "preview=5").stderr
    )


def test_all_questions_about_an_image_go_to_the_same_server(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    lines = [{"id": path.name, "question": f"{k}?"} for k in range(3) for path in pictures.iterdir()]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def slow(n: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.02)
        return "a"

    with chat_server(slow) as one, chat_server(slow) as two:
        done = ask(
            vd100k,
            one,
            f"hardware.urls=[{one.url},{two.url}]",
            "task=answer",
            "task.questions=q.jsonl",
            "stage.max_in_flight=2",
        )
        assert done.returncode == 0, done.stderr
        images = [[body["messages"][-1]["content"][0]["image_url"]["url"] for body in s.requests] for s in (one, two)]
    assert len(images[0]) == len(images[1]) == 9
    assert not set(images[0]) & set(images[1])
    kinds = [part["type"] for part in one.requests[0]["messages"][-1]["content"]]
    assert kinds == ["image_url", "text"], "the image comes first, so that servers find it in their caches"
