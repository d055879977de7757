"""What a person looks at, and what the tool looks at, before and while a long run spends money."""

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


def test_a_preview_shows_pictures_and_answers_and_is_not_paid_for_twice(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: "<script>alert(1)</script> a house") as server:
        done = ask(vd100k, server, "preview=2")
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 2
        assert "a house" in done.stdout
        page = (tmp_path / "outputs/latest/preview.html").read_text(encoding="utf-8")
        assert page.count('src="data:image/png;base64,') == 2
        assert "&lt;script&gt;" in page
        assert "<script>" not in page
        done = ask(vd100k, server, "preview=2", "task.prompt='What else?'")
        assert done.returncode == 0, "another prompt is tried without ado"
        assert ask(vd100k, server).returncode == 0
        assert len(server.requests) == 2 + 2 + 6
        assert ask(vd100k, server, "preview=3").returncode == 0
        assert ask(vd100k, server, "dataset=fresh", "preview=2").returncode == 0
        before = len(server.requests)
        done = ask(vd100k, server, "dataset=fresh")
        assert "2 rows joined from gpt-4o.preview.jsonl" in done.stdout
        assert len(server.requests) == before + 4


def test_one_tiny_request_comes_first(vd100k: Callable[..., Result], pictures: Path, tmp_path: Path) -> None:
    with chat_server(lambda n, body: "a") as server:
        assert ask(vd100k, server, "stage.check=true", "stage.max_in_flight=1").returncode == 0
        tiny = server.requests[0]
        assert tiny["max_tokens"] == 1
        assert tiny["messages"][-1]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
        assert len(server.requests) == 1 + 6
        assert ask(vd100k, server, "stage.check=true").returncode == 0
        assert len(server.requests) == 1 + 6, "where nothing is to be asked, nothing is"


@pytest.mark.parametrize(
    ("status", "words", "said"),
    [
        (404, "The model `m` does not exist.", "It serves other, not m."),
        (400, "m is not a multimodal model", "m is not a multimodal model"),
        (401, "invalid api key", "the key is not accepted"),
    ],
)
def test_a_server_that_will_not_do_is_found_out_by_it(
    vd100k: Callable[..., Result], pictures: Path, status: int, words: str, said: str
) -> None:
    refusal: Reply = (status, {}, json.dumps({"error": {"message": words}}))
    with chat_server(lambda n, body: refusal, name="other") as server:
        done = ask(vd100k, server, "stage.check=true")
        assert len(server.requests) == 1
    assert done.returncode == 1
    assert said in done.stderr


def test_a_run_in_which_too_much_fails_stops_by_itself(vd100k: Callable[..., Result], tmp_path: Path) -> None:
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
    assert counts["requests"] == counts["rows"] + counts["failed"], "what was in flight is kept"


def test_a_disk_that_is_nearly_full_is_not_begun_on(vd100k: Callable[..., Result], pictures: Path) -> None:
    done = ask(vd100k, "http://127.0.0.1:9/v1", "stage.min_free_disk_mb=1000000000")
    assert done.returncode == 1
    assert "less than min_free_disk_mb=1000000000" in done.stderr


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
            said, _ = process.communicate(timeout=15)
        assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert "Stopping after 1 requests in flight" in said
    assert len(rows(tmp_path)) == 1


def test_answers_keep_to_a_schema(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    replies = ['{"colour": 7}', '{"colour": "red"}']
    with chat_server(lambda n, body: replies[min(n, 1)]) as server:
        options = ["task=vqa", "task.prompt='Colour?'", "task.reader=json", "limit=1"]
        done = ask(vd100k, server, *options, f"task.schema={SCHEMA}")
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 2, "what does not fit is asked again"
        asked = server.requests[0]["response_format"]
        assert (asked["type"], asked["json_schema"]["schema"]["required"]) == ("json_schema", ["colour"])
        done = ask(vd100k, server, *options, "+task.schema.type=9", "task.reader=text")
        assert "task.schema is not a valid JSON schema" in done.stderr
        assert "set task.reader=json" in done.stderr


def test_parts_of_the_images_join_and_the_sorted_view_follows_them(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: f"answer {n}") as server:
        for k in (1, 2):
            done = ask(vd100k, server, f"shard={k}/2")
            assert done.returncode == 0, done.stderr
        assert len(server.requests) == 6, "no image is in two parts"
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
    assert "is for stage=generate only" in vd100k("stage=convert", "dataset=pictures", "preview=5").stderr


def test_all_questions_about_an_image_go_to_one_server(
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
    assert kinds == ["image_url", "text"], "the image first: servers then know it from their caches"
