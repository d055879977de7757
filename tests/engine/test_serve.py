"""Two vLLM replicas behind nginx: generation, routing, restarts, and requests of other clients."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import io
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from examples.dialects import tried
from tests.conftest import command_line, free_ports
from tests.engine.conftest import REFUSED, START_S, Fleet, Running, needs_nginx, rows, summary

pytestmark = pytest.mark.engine


def requests_served(port: int) -> float:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return sum(float(n) for n in re.findall(r"^vllm:request_success_total\{.*\} (\S+)$", text, re.MULTILINE))


def test_generate_uses_both_replicas_and_repeats_no_request(fleet: Fleet) -> None:
    before = [requests_served(port) for port in fleet.replicas]
    command = command_line(
        "stage=generate",
        "model=tiny-teacher",
        "task=scene",
        "images=outputs/images/scenes-42/train",
        "dataset=scenes-42",
        *fleet.overrides,
    )
    first = subprocess.run(command, cwd=fleet.folder, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "using the server that is already running at" in first.stdout
    counts = summary(fleet.folder)["counts"]
    assert (counts["images"], counts["rows"], counts["requests"], counts["failed"]) == (48, 48, 48 + 2, 0)
    served = [requests_served(port) - n for port, n in zip(fleet.replicas, before, strict=True)]
    assert sum(served) == 48 + 2, "one small request to each replica first, to check it"
    assert min(served) >= 12

    made = rows(fleet.folder / "outputs/data/scenes-42/scene/tiny-teacher.jsonl")
    right = {row["id"]: row["answer"] for row in rows(fleet.folder / "outputs/images/scenes-42/train.jsonl")}
    assert sum(_json(row["answer"]) == right[row["id"]] for row in made) >= 40, (
        "the teacher should answer most pictures correctly"
    )

    again = subprocess.run(command, cwd=fleet.folder, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert summary(fleet.folder)["counts"]["requests"] == 0


def test_answers_follow_a_json_schema(fleet: Fleet) -> None:
    schema = "{type: object, required: [size], additionalProperties: false, properties: {size: {enum: [small, large]}}}"
    done = subprocess.run(
        command_line(
            *("stage=generate", "model=tiny-teacher", "task=scene", f"task.schema={schema}", "task.name=sized"),
            *("images=outputs/images/scenes-42/train", "dataset=scenes-42", "limit=3", *fleet.overrides),
        ),
        cwd=fleet.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = rows(fleet.folder / "outputs/data/scenes-42/sized/tiny-teacher.jsonl")
    # Without the schema the teacher answers otherwise, as in the test before: the server enforces the schema.
    assert [_json(row["answer"]) in ({"size": "small"}, {"size": "large"}) for row in made] == [True] * 3


@needs_nginx
def test_nginx_routes_all_paths_and_accepts_large_bodies(fleet: Fleet) -> None:
    url = f"http://127.0.0.1:{fleet.port}"
    assert httpx.get(f"{url}/health").status_code == 200
    assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "tiny-teacher"
    noise = Image.frombytes("RGB", (1200, 1200), os.urandom(1200 * 1200 * 3))
    assert len(_data_url(noise)) > 5_000_000
    answer = _ask(url, noise)
    # Every image, however large, is scaled down to the limit of the model, which is 16 visual tokens.
    small = _ask(url, Image.new("RGB", (112, 112)))
    assert answer["usage"]["prompt_tokens"] <= small["usage"]["prompt_tokens"]


def test_the_printed_curl_command_works(fleet: Fleet) -> None:
    line = next(line for line in fleet.lines if "| curl" in line)
    line = line.replace("IMAGE.png", "outputs/images/scenes-42/train/00000.png").replace("curl", "curl --silent")
    answer = subprocess.run(["bash", "-c", line], cwd=fleet.folder, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["choices"][0]["message"]["content"].startswith("{")


@needs_nginx
def test_answers_stream_through_nginx(fleet: Fleet) -> None:
    body = _body(Image.new("RGB", (112, 112), "white")) | {"stream": True}
    with httpx.stream("POST", f"http://127.0.0.1:{fleet.port}/v1/chat/completions", json=body, timeout=60) as answer:
        pieces = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert len(pieces) > 5
    assert pieces[-1] == "data: [DONE]"


def test_ctrl_c_during_startup_leaves_no_process(launch: Callable[..., Running], fleet: Fleet) -> None:
    port = free_ports(1)
    running = launch(fleet.folder, "stage=serve", "model=tiny-teacher", f"hardware.port={port}")
    running.wait_for("starting", 60)
    with pytest.raises(AssertionError, match="was not printed"):
        running.wait_for("answers after", 6)
    assert running.family()
    assert running.interrupt() < 10
    assert running.process.returncode == 130


def test_a_replica_without_restarts_left_stops_the_fleet_and_its_log_is_named(
    launch: Callable[..., Running], tmp_path: Path
) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    running = launch(
        *(tmp_path, "stage=serve", "engine@hardware.engine=swift", "hardware.max_restarts=0"),
        *(f"hardware.port={free_ports(1)}", f"hardware.allowed_media_path={allowed}"),
    )
    running.wait_for("Ctrl-C stops it", 200)
    url = running.wait_for("  URL ", 1).split()[-1]
    image, secret = allowed / "image.png", tmp_path / "secret.png"
    for path in (image, secret):
        Image.new("RGB", (112, 112), "red").save(path)
    with _web(allowed) as site:
        answers = {place: _ask_about(url, place) for place in (str(image), str(secret), f"{site}/image.png")}
    assert [answer.status_code == 200 for answer in answers.values()] == [True, False, False], answers
    outcomes = tried(url, image, image)
    assert {name for name, outcome in outcomes.items() if outcome.startswith("refused")} == REFUSED["swift"], outcomes
    os.kill(running.family()[0].pid, signal.SIGKILL)
    assert running.process.wait(30) == 1
    running_text = "".join(running.lines)
    assert "exited with code -9" in running_text
    assert "replica-0.log" in running_text


def test_a_server_that_dies_during_startup_shows_its_last_lines(tmp_path: Path) -> None:
    command = command_line("stage=serve", "+hardware.engine.args.no_such_flag=1", f"hardware.port={free_ports(1)}")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1
    assert "unrecognized arguments: --no-such-flag" in done.stderr
    assert "Traceback" not in done.stderr


def test_vllm_refuses_only_the_documented_dialects(fleet: Fleet) -> None:
    pictures = fleet.folder / "outputs/images/scenes-42/train"
    outcomes = tried(f"http://127.0.0.1:{fleet.port}/v1", pictures / "00000.png", pictures / "00001.png")
    assert {name for name, outcome in outcomes.items() if outcome.startswith("refused")} == REFUSED["vllm"], outcomes


def test_vllm_reads_no_local_file_and_fetches_no_address(fleet: Fleet, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{fleet.port}"
    Image.new("RGB", (112, 112)).save(tmp_path / "secret.png")
    with _web(tmp_path) as site:
        for place in (f"file://{tmp_path / 'secret.png'}", f"{site}/secret.png"):
            answer = _ask_about(f"{url}/v1", place)
            assert answer.status_code in (400, 500)  # vLLM answers 500 for a file
            assert "allowed" in answer.text


@pytest.mark.story
@needs_nginx
def test_a_killed_replica_loses_no_answer_and_is_restarted(fleet: Fleet) -> None:
    state = json.loads((fleet.folder / f"outputs/servers/{fleet.port}.json").read_text(encoding="utf-8"))
    url, lost = f"http://127.0.0.1:{fleet.port}", []
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(_ask, url, Image.new("RGB", (112, 112), (k % 256, k // 256, 0))) for k in range(300)]
        asked[100].result()
        os.kill(state["programs"][1]["pid"], signal.SIGKILL)
        lost = [error for one in asked if (error := one.exception())]
    assert not lost
    fleet.wait_for(f"replica 1 (port {fleet.replicas[1]}) answers", START_S, times=2)
    time.sleep(11)  # nginx retries a failed replica after ten seconds
    before = [requests_served(port) for port in fleet.replicas]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: _ask(url, Image.new("RGB", (112, 112), (k, k, 9))), range(40)))
    assert min(requests_served(port) - n for port, n in zip(fleet.replicas, before, strict=True)) > 0


@contextlib.contextmanager
def _web(folder: Path) -> Iterator[str]:
    """Serve the folder over HTTP, and return the address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _data_url(image: Image.Image) -> str:
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"


def _body(image: Image.Image) -> dict[str, Any]:
    content = [
        {"type": "image_url", "image_url": {"url": _data_url(image)}},
        {"type": "text", "text": "Describe the picture as JSON."},
    ]
    return {"model": "tiny-teacher", "max_tokens": 40, "messages": [{"role": "user", "content": content}]}


def _ask_about(url: str, place: str) -> httpx.Response:
    """The response to a question about an image that the server must load from ``place`` itself."""
    body = _body(Image.new("RGB", (112, 112)))
    body["messages"][0]["content"][0]["image_url"]["url"] = place
    model = httpx.get(f"{url}/models").json()["data"][0]["id"]
    return httpx.post(f"{url}/chat/completions", json=body | {"model": model}, timeout=60)


def _ask(url: str, image: Image.Image) -> dict[str, dict[str, int]]:
    answer = httpx.post(f"{url}/v1/chat/completions", json=_body(image), timeout=60)
    assert answer.status_code == 200, answer.text
    read: dict[str, dict[str, int]] = answer.json()
    return read
