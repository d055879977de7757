"""Fine-tuning without effect is detected."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chat_server import chat_server
from vd100k.config.run import Run
from vd100k.engines.serving.adapter_check import describe_effect


def names(run: Run) -> tuple[str, str]:
    return run.served_names["base"], run.served_names["adapter"]


@pytest.fixture
def adapter(light_run: Callable[..., Run], pictures: Path) -> Run:
    """A run that serves an adapter, with the rows that it was trained on."""
    run = light_run("weights=adapter", "dataset=photos", "hardware.engine.adapter_args={}", "task=details")
    run.paths.rows.parent.mkdir(parents=True)
    rows = [{"id": p.name, "image": str(p), "question": f"What {{ is {p.name}?"} for p in sorted(pictures.iterdir())]
    run.paths.rows.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return run


def test_different_answers_of_the_tuned_model_are_counted(adapter: Run) -> None:
    base, tuned = names(adapter)
    with chat_server(lambda number, body: f"I am {body['model']}") as server:
        assert describe_effect(adapter, server.url) == f"{tuned} answers 4 of 4 questions differently from {base}."
        asked: list[dict[str, Any]] = server.requests
    assert [request["model"] for request in asked] == [base, tuned] * 4
    assert {request["temperature"] for request in asked} == {0}
    assert asked[0]["messages"][-1]["content"][1]["text"] == "What { is 00.png?"
    assert asked[0]["messages"] == asked[1]["messages"]


def test_an_adapter_that_changes_no_answer_gives_a_warning(adapter: Run) -> None:
    with chat_server(lambda number, body: "the same") as server:
        message = describe_effect(adapter, server.url)
    assert message
    assert message.startswith("WARNING")
    assert str(adapter.paths.adapter) in message


def test_without_answers_there_is_no_message(adapter: Run) -> None:
    with chat_server(lambda number, body: (500, {}, "{}")) as server:
        assert describe_effect(adapter, server.url) is None
    shutil.rmtree(adapter.paths.rows.parent)
    with chat_server(lambda number, body: "the same") as server:
        assert "all 1 questions" in (describe_effect(adapter, server.url) or "")


def weights(folder: Path, **tensors: bytes) -> Path:
    folder.mkdir()
    ends, head = 0, {}
    for name, content in tensors.items():
        head[name] = {"dtype": "U8", "shape": [len(content)], "data_offsets": [ends, ends + len(content)]}
        ends += len(content)
    start = json.dumps(head).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(start)) + start + b"".join(tensors.values()))
    return folder


def test_merged_weights_are_compared_with_the_base(
    light_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = weights(tmp_path / "base", a=b"a" * 9000, b=b"b" * 10)
    merged = weights(tmp_path / "merged", a=b"a" * 4500 + b"x" + b"a" * 4499, b=b"b" * 10)
    run = light_run("weights=merged", "dataset=photos", f"model.path={base}", f"paths.merged={merged}")
    assert describe_effect(run, "http://127.0.0.1:1/v1") == "1 of 2 tensors differ from the base model."
    cache = tmp_path / "hub/models--Some--Model"
    shutil.copytree(base, cache / "snapshots/abc")
    (cache / "snapshots/abc/config.json").write_text("{}")
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    from_hub = light_run("weights=merged", "dataset=photos", "model.path=Some/Model", f"paths.merged={merged}")
    assert describe_effect(from_hub, "http://127.0.0.1:1/v1") == "1 of 2 tensors differ from the base model."
    shutil.copy(base / "model.safetensors", merged)
    assert (describe_effect(run, "http://127.0.0.1:1/v1") or "").startswith("WARNING: all 2 tensors")
    written = (merged / "model.safetensors").read_bytes()
    (merged / "model.safetensors").write_bytes(written.replace(b'"U8"', b'"I8"'))
    assert describe_effect(run, "http://127.0.0.1:1/v1") is None, "different number types cannot be compared"
    (merged / "model.safetensors").write_bytes(written[:50])
    assert "could not be compared" in (describe_effect(run, "http://127.0.0.1:1/v1") or "")
