"""An evaluation from the command line: metrics, slices, fields, other tasks, and what is refused before it starts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chat_server import ChatServer, chat_server
from tests.conftest import draw_pictures, sweep_table
from vd100k.io import jsonl

Call = Callable[..., subprocess.CompletedProcess[str]]
COUNT = 24


@pytest.fixture
def held_out(tmp_path: Path) -> list[str]:
    """The options of an evaluation of both sides, of a model behind a URL that is given twice."""
    draw_pictures(tmp_path / "heldout", COUNT)
    labels = [
        {"id": f"{k:02}.png", "answer": {"colour": "red", "day": "2024-03-01"}, "weather": "rain" if k % 2 else "sun"}
        for k in range(COUNT)
    ]
    jsonl.write(tmp_path / "labels.jsonl", labels)
    options = ["stage=evaluate", "dataset=photos", "task=scene", "answers=m", "hardware=cpu", "stage.ask.check=false"]
    return [*options, "stage.images=heldout", "stage.labels=labels.jsonl", "stage.ask.max_in_flight=1"]


def summary(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "outputs/latest/summary.json").read_text(encoding="utf-8"))
    return read


def reply(number: int, body: dict[str, Any]) -> str:
    """The base model knows nothing of scenes; the tuned one is right on every second picture and forgot to describe."""
    tuned = body["model"].endswith("-tuned")
    if "JSON" in json.dumps(body["messages"]):
        return '{"colour": "red", "day": "1 March 2024"}' if tuned and number % 2 else "a picture"
    return "red" if tuned else "a cat on a red mat"


def test_an_evaluation_shows_metrics_slices_fields_and_what_was_forgotten(
    vd100k: Call, tmp_path: Path, held_out: list[str]
) -> None:
    draw_pictures(tmp_path / "cats", 12, seed=5)
    jsonl.write(tmp_path / "cats.jsonl", [{"id": f"{k:02}.png", "answer": ["a cat on a red mat"]} for k in range(12)])
    with chat_server(reply) as server:
        done = vd100k(
            *(*held_out, f"hardware.urls=[{server.url}]", "task.metrics=[field_values,exact_match]"),
            "model.price={prompt: 1, completion: 10}",
            *(
                "stage.slices=[weather,colour,image_size]",
                "stage.also=[{task: details, images: cats, labels: cats.jsonl}]",
            ),
        )
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 2 * COUNT + 2 * 12
    found, asked = summary(tmp_path), 2 * COUNT + 2 * 12
    assert found["counts"]["prompt_tokens"] == 7 * asked
    assert found["counts"]["cost"] == pytest.approx(asked * (7 * 1 + 3 * 10) / 1e6), "of both sides and tasks"
    assert found["metrics"]["after"] == {
        "exact_match": 0,
        "valid_json": 0.5,
        "field_accuracy": 0.25,
        "field_values": 0.5,
    }
    assert found["metrics"]["also"]["details"]["before"]["rouge_l"] == 1
    assert found["metrics"]["also"]["details"]["after"]["rouge_l"] < 0.5
    sure = found["certainty"]
    assert sure["main"] == "field_values"
    assert [one["name"] for one in sure["fields"]] == ["colour", "day"]
    assert [one["figures"]["after"] for one in sure["fields"]] == [0.5, 0.5]
    assert {one["name"]: one["figures"]["after"] for one in sure["slices"]["weather"]} == {"sun": 0, "rain": 1}
    own, other = sure["retention"]
    assert own["name"] == "scene: field values"
    assert (other["name"], other["images"]) == ("details: ROUGE-L", 12)
    assert other["verdict"].startswith("forgot: -")
    assert "worst slices, field values after: weather sun 0 % (0 to 24) of 12 images" in done.stdout
    assert "worst fields, after: colour 50 % (" in done.stdout
    assert "forgot: -" in done.stdout
    assert "field values 0 % → 50 % on 24 held-out images, +50 points (" in done.stdout
    assert "; forgot details\n" in done.stdout
    folder = tmp_path / "outputs/evaluations/photos/scene"
    assert (folder / "also/details/tiny-student.compared.jsonl").exists()
    rows = list(jsonl.read_rows(folder / "tiny-student.compared.jsonl"))
    assert rows[1]["scores"]["after"]["field_values"] == 1
    html = (tmp_path / "outputs/latest/report.html").read_text(encoding="utf-8")
    for text in ("By weather: field values", "Correct values by field", "details: ROUGE-L", "became better (12)"):
        assert text in html, text
    gallery = html[html.index("details: before and after, worst first") :]
    assert gallery.count("a cat on a red mat") >= 24, "the label and the answer before of each image"
    assert html.count('class="interval"') >= 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["task.metrics=[rogue_l]"],
            "task=scene: task.metrics contains rogue_l, which is no metric: did you mean rouge_l?",
        ),
        (
            ["stage.slices=[wether]"],
            "stage.slices contains wether, and no label has a column or a field of that name: did",
        ),
        (
            ["stage.also=[{task: detials, images: heldout, labels: labels.jsonl}]"],
            "stage.also[0].task=detials: no such task: did you mean details?",
        ),
        (["stage.also=[{task: details, images: heldout}]"], "stage.also.0.labels is missing"),
        (
            ["stage.also=[{task: details, images: nowhere, labels: labels.jsonl}]"],
            "stage.also[0].images=nowhere",
        ),
        (
            ["stage.also=[{task: details, images: heldout, labels: nowhere.jsonl}]"],
            "stage.also[0].labels=nowhere.jsonl: no such file",
        ),
        (
            ["stage.also=[{task: scene, images: heldout, labels: labels.jsonl}]"],
            "stage.also evaluates more than one task as scene",
        ),
        (
            ["stage.also=[{task: question, images: heldout, labels: labels.jsonl, name: ../x}]"],
            "stage.also[0].name='../x' becomes the name of a file or folder",
        ),
        (
            ["stage.also=[{task: answer, images: heldout, labels: labels.jsonl}]"],
            "task=answer asks a different question about each image",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_asked(
    vd100k: Call, held_out: list[str], options: list[str], message: str
) -> None:
    with chat_server(reply) as server:
        done = vd100k(*held_out, f"hardware.urls=[{server.url}]", *options)
        assert done.returncode == 1
        assert message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        assert not server.requests


def test_the_plan_names_what_is_asked_about_other_tasks(vd100k: Call, held_out: list[str]) -> None:
    done = vd100k(*held_out, "hardware.urls=[http://127.0.0.1:9/v1]", "dry_run=true", OTHER)
    assert done.returncode == 0, done.stderr
    assert (
        "old: ask tiny-student about heldout, append rows to outputs/evaluations/photos/scene/also/old/" in done.stdout
    )
    assert "old: compare with labels.jsonl" in done.stdout


OTHER = "stage.also=[{task: vqa, images: heldout, labels: labels.jsonl, name: old}]"


def test_images_of_another_task_that_were_trained_on_are_refused(
    vd100k: Call, tmp_path: Path, held_out: list[str]
) -> None:
    draw_pictures(tmp_path / "cats", 12, seed=5)
    trained = tmp_path / "outputs/data/photos/scene/m.swift/train.jsonl"
    trained.parent.mkdir(parents=True)
    jsonl.write(trained, [{"messages": [], "images": [str(tmp_path / "cats/03.png")]}])
    jsonl.write(tmp_path / "cats.jsonl", [{"id": f"{k:02}.png", "answer": "a cat"} for k in range(12)])
    with chat_server(reply) as server:
        done = vd100k(
            *(*held_out, f"hardware.urls=[{server.url}]"),
            "stage.also=[{task: vqa, images: cats, labels: cats.jsonl}]",
        )
        assert done.returncode == 1
        assert "stage.also[0].images=cats: 1 of 12 held-out images are among the training images" in done.stderr
        assert not server.requests


def evaluated(vd100k: Call, tmp_path: Path, options: list[str], server: ChatServer, *more: str) -> str:
    done = vd100k(*options, f"hardware.urls=[{server.url}]", "stage.sides=[before]", *more)
    assert done.returncode == 0, done.stderr
    return str((tmp_path / "outputs/latest").resolve())


def test_compare_and_a_sweep_say_what_is_within_noise(
    vd100k: Call, tmp_path: Path, held_out: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # the width of tables
    right = '{"colour": "red", "day": "2024-03-01"}'

    def wrong(number: int, body: dict[str, Any]) -> str:
        first = {"tiny-student": 0, "tiny-reader": 1, "tiny-teacher": 18}[body["model"]]
        return right if number % COUNT >= first else "?"

    with chat_server(wrong) as server:
        names = ("tiny-student", "tiny-reader", "tiny-teacher")
        runs = [evaluated(vd100k, tmp_path, held_out, server, f"model={name}") for name in names]
        done = vd100k(
            *("-m", *held_out, f"hardware.urls=[{server.url}]", "stage.sides=[before]", f"model={','.join(names)}"),
        )
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("before/exact_match: "))
    assert line.startswith("before/exact_match: job 0 best; job 1 within noise: -4.17 points (")
    assert "; job 2 worse: -75 points (" in line
    assert line.endswith(" on the same 24 images")
    assert [row["compared with the best"].split(":")[0] for row in sweep_table(tmp_path)] == [
        *("best", "within noise", "worse"),
    ]
    assert sweep_table(tmp_path)[0]["before/exact_match low"] == "0.862"
    done = vd100k("stage=compare", f"runs=[{','.join(runs)}]")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("before/exact_match: "))
    assert "best; " in line
    assert "within noise: -4.17 points (" in line
    assert line.count("on the same 24 images") == 2
    assert "worse: -75 points (" in line
    assert "100.0 % (86 to 100), best" in done.stdout
    assert "95.8 % (80 to 99), within noise" in done.stdout
    (tmp_path / "outputs/evaluations/photos/scene/tiny-reader.compared.jsonl").unlink()
    done = vd100k("stage=compare", f"runs=[{','.join(runs[:2])}]")
    assert "within noise: -4.17 points (" in done.stdout
    assert "not image by image" in done.stdout
