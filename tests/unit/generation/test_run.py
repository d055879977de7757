"""stage=generate on the real command line, against a local server whose replies the tests script."""

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


def ask(vd100k: Callable[..., Result], server: ChatServer | str, *overrides: str, timeout: float = 300) -> Result:
    return vd100k(*asking(server), *overrides, timeout=timeout)


def asking(server: ChatServer | str) -> list[str]:
    """The overrides that ask a server about the images."""
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


def test_every_image_is_asked_about_once_and_a_rerun_sends_nothing(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: f"answer {n}") as server:
        first = ask(vd100k, server)
        assert first.returncode == 0, first.stderr
        written = rows(tmp_path)
        assert sorted(row["id"] for row in written) == sorted(p.name for p in pictures.iterdir())
        assert all(row["model"] == "gpt-4o" and row["question"] == "Describe this image." for row in written)
        sent = server.requests[0]
        assert [part["type"] for part in sent["messages"][-1]["content"]] == ["image_url", "text"]
        assert (sent["model"], sent["max_tokens"]) == ("m", 1024)
        again = ask(vd100k, server)
        assert len(server.requests) == 6
        assert "6 answers exist already" in again.stdout
    counts = summary(tmp_path)["counts"]
    assert (counts["images"], counts["rows"], counts["reused"], counts["requests"]) == (6, 6, 6, 0)


def test_a_rerun_asks_only_about_new_images(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    with chat_server(lambda n, body: "a") as server:
        ask(vd100k, server, "limit=2")
        ask(vd100k, server)
        assert len(server.requests) == 6
    assert len(rows(tmp_path)) == 6


def test_temporary_errors_are_retried(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    def script(n: int, body: dict[str, Any]) -> Reply:
        if n == 0:
            return 429, {"Retry-After": "1"}, '{"error": {"message": "slow down"}}'
        if n == 1:
            return 503, {}, "not now"
        if n == 2:
            return 200, {}, completion("")
        if n == 3:
            return 200, {}, "this is not JSON"
        return "a"

    with chat_server(script) as server:
        done = ask(vd100k, server)
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 10
    assert len(rows(tmp_path)) == 6
    assert summary(tmp_path)["counts"]["requests"] == 10


def test_images_that_failed_in_an_outage_are_retried_by_the_next_run(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: (503, {}, "down")) as server:
        assert ask(vd100k, server, "stage.max_retries=0").returncode == 1
    assert {row["reason"] for row in rows(tmp_path, "gpt-4o.failures.jsonl")} == {"http_503"}
    with chat_server(lambda n, body: "a") as server:
        assert ask(vd100k, server).returncode == 0
    assert len(rows(tmp_path)) == 6


def test_a_lack_of_credit_ends_the_run_at_once(vd100k: Callable[..., Result], pictures: Path) -> None:
    body = '{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}'
    with chat_server(lambda n, _: (429, {}, body)) as server:
        done = ask(vd100k, server, "stage.max_in_flight=1")
        assert len(server.requests) == 1
    assert "You exceeded your current quota" in done.stderr


def test_only_an_edited_image_is_asked_again_and_its_old_row_is_kept(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: f"answer {n}") as server:
        ask(vd100k, server)
        before = {row["id"]: row for row in rows(tmp_path)}
        os.utime(pictures / "00.png")
        assert ask(vd100k, server).returncode == 0
        assert len(server.requests) == 6, "the file was only touched"
        draw_pictures(pictures, 1, seed=7)
        draw_pictures(tmp_path / "more", 1, seed=8)
        (tmp_path / "more/00.png").rename(pictures / "new.png")
        done = ask(vd100k, server)
        assert done.returncode == 0, done.stderr
        assert "1 answers are about images that have changed since" in done.stdout
        assert len(server.requests) == 8
        after = {row["id"]: row for row in rows(tmp_path)}
        assert rows(tmp_path, "gpt-4o.outdated.jsonl") == [before.pop("00.png")]
        assert len(rows(tmp_path)) == len(after) == 7
        assert all(after[id] == row for id, row in before.items()), "the other rows are untouched"
        counts = summary(tmp_path)["counts"]
        assert (counts["images"], counts["rows"], counts["reused"], counts["open"]) == (7, 7, 5, 0)
        ask(vd100k, server)
        assert len(server.requests) == 8, "nothing is left to ask"


def test_sampling_options_that_the_openai_sdk_does_not_know_are_sent(
    vd100k: Callable[..., Result], pictures: Path
) -> None:
    with chat_server(lambda n, body: "a") as server:
        done = ask(vd100k, server, "+task.sampling.top_k=5")
        assert done.returncode == 0, done.stderr
        assert server.requests[0]["top_k"] == 5


def test_failures_are_recorded_with_their_reason(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    (pictures / "text.jpg").write_text("not an image", encoding="utf-8")

    def script(n: int, body: dict[str, Any]) -> Reply:
        return (400, {}, '{"error": {"message": "content policy"}}') if n == 0 else "a"

    with chat_server(script) as server:
        done = ask(vd100k, server, "stage.max_in_flight=1")
        assert done.returncode == 0, done.stderr
        again = ask(vd100k, server)
        assert len(server.requests) == 6, "a permanent failure is not retried by default"
        assert "2 images have no answer" in again.stdout
        failures = {row["reason"]: row for row in rows(tmp_path, "gpt-4o.failures.jsonl")}
        assert failures["http_400"]["detail"] == "content policy"
        assert "text.jpg: not an image" in failures["image_unreadable"]["detail"]
        ask(vd100k, server, "stage.retry_failed=true")
        assert len(server.requests) == 7
    assert len(rows(tmp_path)) == 6
    assert [row["reason"] for row in rows(tmp_path, "gpt-4o.failures.jsonl")] == ["image_unreadable"], (
        "each failure once"
    )


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "Check the key"), (403, "may use the model"), (404, "lists what is served")]
)
def test_a_server_that_rejects_all_requests_ends_the_run_at_once(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path, status: int, remedy: str
) -> None:
    with chat_server(lambda n, body: (status, {}, '{"error": {"message": "message of the server"}}')) as server:
        done = ask(vd100k, server, "stage.max_in_flight=2")
        assert len(server.requests) <= 2
    assert done.returncode == 1
    assert "message of the server" in done.stderr
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert summary(tmp_path)["status"] == "failed"


def test_a_server_that_is_not_reachable_ends_the_run_with_an_error(
    vd100k: Callable[..., Result], pictures: Path
) -> None:
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


def test_the_limit_of_requests_in_flight_is_kept_and_used(vd100k: Callable[..., Result], pictures: Path) -> None:
    def slow(n: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.3)
        return "a"

    with chat_server(slow) as server:
        ask(vd100k, server, "stage.max_in_flight=3")
        assert server.most_in_flight == 3


def test_two_endpoints_share_the_images(vd100k: Callable[..., Result], pictures: Path) -> None:
    def slow(n: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.1)
        return "a"

    with chat_server(slow) as one, chat_server(slow) as two:
        done = ask(vd100k, one, f"hardware.urls=[{one.url},{two.url}]", "stage.max_in_flight=2")
        assert done.returncode == 0, done.stderr
        assert len(one.requests) + len(two.requests) == 6
        assert min(len(one.requests), len(two.requests)) >= 1, "the second image goes to the idle endpoint"


def test_the_key_comes_from_the_environment_and_is_never_written_or_shown(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    monkeypatch.setenv("WANDB_MODE", "offline")

    def script(n: int, body: dict[str, Any]) -> Reply:
        if n == 0:
            return 200, {}, "sk-very-secret is not JSON"
        message = json.dumps({"error": {"message": "Incorrect API key provided: sk-very-secret"}})
        return (400 if n < 3 else 401, {}, message) if n in (1, 2, 6) else "a"

    shown = ""
    with chat_server(script) as server:
        for _ in range(2):
            done = ask(vd100k, server, "model.api_key_env=MY_KEY", "tracking=wandb", "stage.max_in_flight=1")
            shown += done.stdout + done.stderr
            draw_pictures(pictures, 8)
        assert set(server.keys) == {"Bearer sk-very-secret"}
    assert "the key is not accepted: Incorrect API key provided: (hidden)" in shown
    assert "sk-very-secret" not in shown
    written = [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in written)
    for path in written:
        assert b"sk-very-secret" not in path.read_bytes(), path


def test_a_missing_key_is_an_error_that_names_the_variable(vd100k: Callable[..., Result], pictures: Path) -> None:
    done = ask(vd100k, "http://127.0.0.1:9/v1", "model.api_key_env=NO_SUCH_KEY")
    assert done.returncode == 1
    assert "export NO_SUCH_KEY=" in done.stderr


def test_ctrl_c_finishes_the_requests_in_flight_and_the_next_run_continues(
    tmp_path: Path, vd100k: Callable[..., Result], pictures: Path
) -> None:
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
            _, errors = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "the same command continues" in errors
        assert len(rows(tmp_path)) == 3, "the request in flight is finished"
        assert summary(tmp_path)["status"] == "interrupted"
        ask(vd100k, server)
        assert len(server.requests) == 3 + 3, "and its image is not asked about again"
    assert len({row["id"] for row in rows(tmp_path)}) == len(rows(tmp_path)) == 6


def test_every_run_says_which_files_it_ignored(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    for name in ("film.mov", "._00.png", ".DS_Store"):
        (pictures / name).write_bytes(b"x")
    says = "3 files ignored: .mov 1, hidden 2\n"
    with chat_server(lambda n, body: "a") as server:
        assert says in ask(vd100k, server, "dry_run=true").stdout
        assert says in ask(vd100k, server).stdout
        assert len(server.requests) == 6
    assert summary(tmp_path)["counts"]["ignored"] == 3
    assert summary(tmp_path)["metrics"]["ignored"] == {".mov": 1, "hidden": 2}
