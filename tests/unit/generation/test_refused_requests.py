"""403, redirects and proxies: what a server, or something on the way to it, refuses or diverts."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chat_server import Reply, chat_server
from tests.unit.generation.test_run import ask, rows, summary

Result = subprocess.CompletedProcess[str]
DENIED: Reply = (403, {}, '{"error": {"message": "flagged by moderation"}}')


@pytest.mark.parametrize("check", ["true", "false"])
def test_a_403_after_successes_is_a_failure_of_that_image(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path, check: str
) -> None:
    refused: set[str] = set()

    def script(n: int, body: dict[str, Any]) -> Reply:
        url = body["messages"][-1]["content"][0]["image_url"]["url"]
        if n == 2:
            refused.add(url)
        return DENIED if url in refused else "a"

    with chat_server(script) as server:
        done = ask(vd100k, server, "stage.max_in_flight=1", f"stage.check={check}")
        assert done.returncode == 0, done.stderr
        assert len(rows(tmp_path)) == 5
        (failure,) = rows(tmp_path, "gpt-4o.failures.jsonl")
        assert (failure["reason"], failure["detail"]) == ("http_403", "flagged by moderation")
        asked = len(server.requests)
        again = ask(vd100k, server, f"stage.check={check}")
        assert again.returncode == 0, "a rerun does not end at the image that was refused"
        assert len(server.requests) == asked


def test_a_key_that_is_revoked_ends_the_run_and_loses_no_paid_answer(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    def script(n: int, body: dict[str, Any]) -> Reply:
        return DENIED if n >= 4 else "a"

    with chat_server(script) as server:
        done = ask(vd100k, server, "stage.max_in_flight=1")
        assert done.returncode == 1
        assert "flagged by moderation" in done.stderr
        assert "may use the model" in done.stderr
        assert len(rows(tmp_path)) == 4
        assert summary(tmp_path)["counts"]["failed"] == 0, "no image is blamed for the key"
        server.script = lambda n, body: "a"
        assert ask(vd100k, server).returncode == 0
    assert len(rows(tmp_path)) == 6


def test_a_fatal_reply_lets_the_requests_in_flight_finish(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    """Six requests in flight: the first is refused at once, the others are answered a second later."""

    def script(n: int, body: dict[str, Any]) -> Reply:
        if n == 5:
            return 401, {}, '{"error": {"message": "key expired"}}'
        time.sleep(1)
        return "a"

    with chat_server(script) as server:
        done = ask(vd100k, server, "stage.max_in_flight=6")
        assert done.returncode == 1
        assert "key expired" in done.stderr
        assert len(rows(tmp_path)) == len(server.requests) - 1 == 5


def test_a_redirect_is_not_followed(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    with chat_server(lambda n, body: "a") as elsewhere:
        there = f"{elsewhere.url}/chat/completions"
        with chat_server(lambda n, body: (307, {"Location": there}, "")) as server:
            done = ask(vd100k, server)
        assert done.returncode == 1
        assert f"redirects to {there}: set hardware.urls" in done.stderr
        assert not elsewhere.requests, "neither the key nor an image reaches the other server"


def test_this_machine_is_never_asked_through_a_proxy(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with chat_server(lambda n, body: "from the proxy") as proxy, chat_server(lambda n, body: "direct") as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert ask(vd100k, server, "stage.check=true").returncode == 0
        assert not proxy.requests
    assert {row["answer"] for row in rows(tmp_path)} == {"direct"}
