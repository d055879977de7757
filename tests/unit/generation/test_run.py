"""Asking through the real command line, against a local server that behaves as tests say."""

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

from tests.chat_server import ChatServer, Reply, chat_server, completion
from tests.conftest import command_line, draw_pictures

Result = subprocess.CompletedProcess[str]


def ask(vd100k: Callable[..., Result], server: ChatServer | str, *overrides: str) -> Result:
    return vd100k(*asking(server), *overrides)


def asking(server: ChatServer | str) -> list[str]:
    """What asks a server about the pictures."""
    url = server if isinstance(server, str) else server.url
    return [
        "stage=generate",
        "images=pictures",
        "hardware=api",
        f"hardware.urls=[{url}]",
        "model=gpt-4o",
        "model.served_name=m",
        "model.api_key_env=null",
        "stage.check=false",
    ]


def rows(folder: Path, name: str = "gpt-4o.jsonl") -> list[dict[str, Any]]:
    path = folder / "outputs/data/pictures/details" / name
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "outputs/latest/summary.json").read_text(encoding="utf-8"))


def test_every_image_once_and_a_rerun_asks_nothing(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: f"answer {n}") as server:
        first = ask(vd100k, server)
        assert first.returncode == 0, first.stderr
        made = rows(tmp_path)
        assert sorted(row["id"] for row in made) == sorted(p.name for p in pictures.iterdir())
        assert all(row["model"] == "gpt-4o" and row["question"] == "请描述这张图片。" for row in made)
        sent = server.requests[0]
        assert [part["type"] for part in sent["messages"][-1]["content"]] == ["image_url", "text"]
        assert (sent["model"], sent["max_tokens"]) == ("m", 1024)
        again = ask(vd100k, server)
        assert len(server.requests) == 6
        assert "6 answers exist already" in again.stdout
    counts = summary(tmp_path)["counts"]
    assert (counts["images"], counts["rows"], counts["reused"], counts["requests"]) == (6, 6, 6, 0)


def test_a_rerun_asks_only_what_is_new(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    with chat_server(lambda n, body: "a") as server:
        ask(vd100k, server, "limit=2")
        ask(vd100k, server)
        assert len(server.requests) == 6
    assert len(rows(tmp_path)) == 6


def test_refusals_that_pass_are_waited_out(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    def script(n: int, body: dict[str, Any]) -> Reply:
        if n == 0:
            return 429, {"Retry-After": "1"}, '{"error": {"message": "slow down"}}'
        if n == 1:
            return 503, {}, "not now"
        if n == 2:
            return 200, {}, completion("")
        if n == 3:
            return 200, {}, "this is no JSON"
        return "a"

    with chat_server(script) as server:
        done = ask(vd100k, server)
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 10
    assert len(rows(tmp_path)) == 6
    assert summary(tmp_path)["counts"]["requests"] == 10


def test_an_outage_is_asked_about_again(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    with chat_server(lambda n, body: (503, {}, "down")) as server:
        assert ask(vd100k, server, "stage.max_retries=0").returncode == 1
    assert {row["reason"] for row in rows(tmp_path, "gpt-4o.failures.jsonl")} == {"http_503"}
    with chat_server(lambda n, body: "a") as server:
        assert ask(vd100k, server).returncode == 0
    assert len(rows(tmp_path)) == 6


def test_no_credit_ends_the_run_at_once(vd100k: Callable[..., Result], pictures: Path) -> None:
    body = '{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}'
    with chat_server(lambda n, _: (429, {}, body)) as server:
        done = ask(vd100k, server, "stage.max_in_flight=1")
        assert len(server.requests) == 1
    assert "You exceeded your current quota" in done.stderr


def test_a_changed_image_is_not_taken_for_the_one_answered(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: "a") as server:
        ask(vd100k, server)
        os.utime(pictures / "00.png")
        assert ask(vd100k, server).returncode == 0, "touched only"
        draw_pictures(pictures, 1, seed=7)
        done = ask(vd100k, server)
        assert done.returncode == 1
        assert "00.png has changed since it was answered" in done.stderr
        assert ask(vd100k, server, "stage.if_changed=set_aside").returncode == 0
        assert len(server.requests) == 12


def test_sampling_options_the_sdk_does_not_know_are_sent(vd100k: Callable[..., Result], pictures: Path) -> None:
    with chat_server(lambda n, body: "a") as server:
        done = ask(vd100k, server, "+task.sampling.top_k=5")
        assert done.returncode == 0, done.stderr
        assert server.requests[0]["top_k"] == 5


def test_what_cannot_be_answered_is_kept_with_its_reason(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    (pictures / "text.jpg").write_text("no image", encoding="utf-8")

    def script(n: int, body: dict[str, Any]) -> Reply:
        return (400, {}, '{"error": {"message": "content policy"}}') if n == 0 else "a"

    with chat_server(script) as server:
        done = ask(vd100k, server, "stage.max_in_flight=1")
        assert done.returncode == 0, done.stderr
        again = ask(vd100k, server)
        assert len(server.requests) == 6, "a failure is not asked again unless wanted"
        assert "2 images have no answer" in again.stdout
        failures = {row["reason"]: row for row in rows(tmp_path, "gpt-4o.failures.jsonl")}
        assert failures["http_400"]["detail"] == "content policy"
        assert "text.jpg: not an image" in failures["image_unreadable"]["detail"]
        ask(vd100k, server, "stage.retry_failed=true")
        assert len(server.requests) == 7
    assert len(rows(tmp_path)) == 6
    assert [row["reason"] for row in rows(tmp_path, "gpt-4o.failures.jsonl")] == ["image_unreadable"], "each once"


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "Check the key"), (403, "may use the model"), (404, "lists what is served")]
)
def test_a_refusal_of_all_ends_the_run_at_once(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path, status: int, remedy: str
) -> None:
    with chat_server(lambda n, body: (status, {}, '{"error": {"message": "its own words"}}')) as server:
        done = ask(vd100k, server, "stage.max_in_flight=2")
        assert len(server.requests) <= 2
    assert done.returncode == 1
    assert "its own words" in done.stderr
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert summary(tmp_path)["status"] == "failed"


def test_nobody_there(vd100k: Callable[..., Result], pictures: Path) -> None:
    with chat_server(lambda n, body: "a") as server:
        url = server.url
    done = ask(vd100k, url, "stage.max_retries=1", "stage.check=true")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    done = ask(vd100k, url, "stage.endpoint_wait_s=1")
    assert done.returncode == 1
    assert "No endpoint answers: waiting up to 1 s" in done.stdout
    assert "did not answer for 1 s" in done.stderr
    assert "Traceback" not in done.stderr


def test_in_flight_is_bounded_and_reached(vd100k: Callable[..., Result], pictures: Path) -> None:
    def slow(n: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.3)
        return "a"

    with chat_server(slow) as server:
        ask(vd100k, server, "stage.max_in_flight=3")
        assert server.most_in_flight == 3


def test_endpoints_share_the_work(vd100k: Callable[..., Result], pictures: Path) -> None:
    def slow(n: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.1)
        return "a"

    with chat_server(slow) as one, chat_server(slow) as two:
        done = ask(vd100k, one, f"hardware.urls=[{one.url},{two.url}]", "stage.max_in_flight=2")
        assert done.returncode == 0, done.stderr
        assert len(one.requests) + len(two.requests) == 6
        assert min(len(one.requests), len(two.requests)) >= 1, "the second image goes where the first is not"


def test_the_key_comes_from_the_environment_and_is_written_nowhere(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    monkeypatch.setenv("WANDB_MODE", "offline")

    def script(n: int, body: dict[str, Any]) -> Reply:
        if n == 0:
            return 200, {}, "sk-very-secret is no JSON"
        words = json.dumps({"error": {"message": "Incorrect API key provided: sk-very-secret"}})
        return (400 if n < 3 else 401, {}, words) if n in (1, 2, 6) else "a"

    said = ""
    with chat_server(script) as server:
        for _ in range(2):
            done = ask(vd100k, server, "model.api_key_env=MY_KEY", "tracking=wandb", "stage.max_in_flight=1")
            said += done.stdout + done.stderr
            draw_pictures(pictures, 8)
        assert set(server.keys) == {"Bearer sk-very-secret"}
    assert "the key is not accepted: Incorrect API key provided: [the key]" in said
    assert "sk-very-secret" not in said
    written = [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in written)
    for path in written:
        assert b"sk-very-secret" not in path.read_bytes(), path


def test_a_missing_key_is_named(vd100k: Callable[..., Result], pictures: Path) -> None:
    done = ask(vd100k, "http://127.0.0.1:9/v1", "model.api_key_env=NO_SUCH_KEY")
    assert done.returncode == 1
    assert "export NO_SUCH_KEY=" in done.stderr


def test_ctrl_c_keeps_what_was_answered(tmp_path: Path, vd100k: Callable[..., Result], pictures: Path) -> None:
    reached = threading.Event()

    def hang_on_the_third(n: int, body: dict[str, Any]) -> Reply:
        if n == 2:
            reached.set()
            time.sleep(3)
        return "a"

    with chat_server(hang_on_the_third) as server:
        command = command_line(*asking(server), "stage.max_in_flight=1")
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            assert reached.wait(60)
            os.kill(process.pid, 2)
            _, said = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "the same command continues" in said
        assert len(rows(tmp_path)) == 3, "what was in flight is finished"
        assert summary(tmp_path)["status"] == "interrupted"
        ask(vd100k, server)
        assert len(server.requests) == 3 + 3, "and not asked again"
    assert len({row["id"] for row in rows(tmp_path)}) == len(rows(tmp_path)) == 6
