"""What decides an answer: every part of it is compared before rows are reused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chat_server import chat_server
from tests.unit.generation.test_run import ask, rows
from vd100k.config.run import Run
from vd100k.ledger.provenance import answer_settings, difference

Result = subprocess.CompletedProcess[str]


@pytest.fixture
def local_run(parsed: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """A run whose model folder and adapter are in the test's folder."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}", encoding="utf-8")

    def make(*overrides: str) -> Run:
        base = ["stage=generate", "images=p", f"model.path={tmp_path / 'model'}", f"output_dir={tmp_path / 'outputs'}"]
        return parsed(*base, *overrides)

    return make


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("weights=adapter", "weights was 'base' and is now 'adapter'"),
        ("task.prompt=other", "prompt"),
        ("task.system_prompt=other", "system_prompt"),
        ("task.question=other", "question"),
        ("task.reader=json", "reader was 'text' and is now 'json'"),
        ("+task.sampling.top_p=0.5", "sampling"),
        ("model.max_pixels=50000", "max_pixels"),
        ("+hardware.engine.args.chat_template=other.jinja", "engine"),
        ("+hardware.engine.args.quantization=awq", "engine"),
    ],
)
def test_what_decides_an_answer_is_compared(local_run: Callable[..., Run], override: str, key: str) -> None:
    before, after = answer_settings(local_run()), answer_settings(local_run(override))
    assert key in difference(before, after)
    assert not difference(after, json.loads(json.dumps(after))), "it is the same after it was written and read"


def test_rows_of_merged_weights_from_before_weights_were_recorded_are_reused(local_run: Callable[..., Run]) -> None:
    new = answer_settings(local_run("dataset=d", "weights=merged"))
    assert not difference({key: value for key, value in new.items() if key != "weights"}, new)


def test_a_secret_in_a_sampling_option_is_compared_without_being_kept(local_run: Callable[..., Run]) -> None:
    first, second = (answer_settings(local_run(f"+task.sampling.api_key={key}")) for key in ("abc123", "abc124"))
    assert difference(first, second)
    assert "abc123" not in json.dumps(first)
    plain, other = (answer_settings(local_run(f"+task.sampling.stop=['token: {text}']")) for text in ("A1", "B1"))
    assert difference(plain, other)


def test_options_with_numbers_as_keys_are_the_same_when_they_are_read_again(local_run: Callable[..., Run]) -> None:
    new = answer_settings(local_run("+task.sampling.logit_bias={50256: -100}"))
    assert not difference(json.loads(json.dumps(new)), new)


def test_a_retrained_adapter_answers_differently(local_run: Callable[..., Run]) -> None:
    run = local_run("weights=adapter")
    run.paths.adapter.mkdir(parents=True)
    weights = run.paths.adapter / "adapter_model.safetensors"
    weights.write_bytes(b"first")
    before = answer_settings(run)
    weights.write_bytes(b"other")
    assert difference(before, answer_settings(run)).startswith("adapter was ")


def test_rows_from_before_a_setting_was_recorded_are_reused(local_run: Callable[..., Run]) -> None:
    new = answer_settings(local_run())
    old = {key: value for key, value in new.items() if key not in ("weights", "reader", "engine")}
    assert not difference(old, new)
    assert "weights was 'base' and is now 'adapter'" in difference(old, answer_settings(local_run("weights=adapter")))


def test_rows_of_other_weights_under_the_same_name_and_address_are_refused(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: "a") as server:
        server.root = "/models/first"
        assert ask(vd100k, server, "stage.check=true", "limit=3").returncode == 0
        server.root = "/elsewhere/first/"
        assert ask(vd100k, server, "stage.check=true", "limit=4").returncode == 0, "the same folder on another disk"
        server.root = "/models/second"
        asked = len(server.requests)
        done = ask(vd100k, server, "stage.check=true")
        assert done.returncode == 1
        assert "loaded_from was 'first' and is now 'second'" in done.stderr
        assert len(server.requests) == asked, "nothing is sent before the refusal"
        assert ask(vd100k, server, "stage.check=true", "stage.if_changed=set_aside").returncode == 0
    assert len(rows(tmp_path)) == 6


def test_an_evaluation_never_reuses_answers_from_a_url(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps({"id": p.name, "answer": "new"}) + "\n" for p in pictures.iterdir()))
    answer = "old"
    with chat_server(lambda n, body: answer) as server:
        for expected in (0.0, 1.0):
            done = vd100k(
                *("stage=evaluate", "stage.sides=[before]", "images=pictures", "stage.images=pictures"),
                *(f"stage.labels={labels}", "hardware=api", f"hardware.urls=[{server.url}]", "model=gpt-4o"),
                *("model.served_name=m", "model.api_key_env=null", "stage.ask.check=false"),
            )
            assert done.returncode == 0, done.stderr
            summary = json.loads((tmp_path / "outputs/latest/summary.json").read_text(encoding="utf-8"))
            assert summary["metrics"]["before"]["exact_match"] == expected
            answer = "new"
    kept = list((tmp_path / "outputs/evaluations").rglob("gpt-4o.base.jsonl.*"))
    assert len(kept) == 1, "the earlier answers are kept under another name"
