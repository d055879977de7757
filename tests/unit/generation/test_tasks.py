"""Tasks on the real command line: the prompts, the parsing of replies, and the rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chat_server import chat_server, completion
from tests.conftest import draw_pictures
from tests.unit.generation.test_run import Result, ask, summary
from vd100k.io.jsonl import read_rows, write

CHOICE = {"question": "Which?", "choiceA": "a", "choiceB": "b", "choiceC": "c", "choiceD": "d", "answer": "(B) b"}


def rows(folder: Path, task: str, name: str = "gpt-4o") -> list[dict[str, Any]]:
    return list(read_rows(folder / f"outputs/data/pictures/{task}/{name}.jsonl"))


def asked(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"][-1]["text"])


def test_one_model_asks_and_another_answers(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    with chat_server(lambda n, body: f"问题：它是什么 {n}？") as server:
        done = ask(vd100k, server, "task=question", "task.language=zh")
        assert done.returncode == 0, done.stderr
        assert asked(server.requests[0]).startswith("请仔细观察")
    questions = {row["id"]: row["question"] for row in rows(tmp_path, "question")}
    assert len(questions) == 6
    assert all(question.startswith("它是什么") for question in questions.values())
    with chat_server(lambda n, body: f"A: {asked(body)}") as server:
        done = ask(vd100k, server, "task=answer", "asker=gpt-4o", "model.name=other")
        assert done.returncode == 0, done.stderr
        again = ask(vd100k, server, "task=answer", "asker=gpt-4o", "model.name=other")
        assert "6 answers exist already" in again.stdout
        assert len(server.requests) == 6
    for row in rows(tmp_path, "answer", "other"):
        assert row["question"] == questions[row["id"]]
        assert row["answer"] == f"A: {row['question']}"
        assert row["model"] == "other"


def test_a_file_of_questions_is_answered_line_by_line(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    lines = [{"id": "00.png", "question": "{{ 1 }} 多少?"}, {"id": "00.png", "question": "Why?"}]
    lines += [{"id": "elsewhere.png", "question": "Who?"}, {"id": "01.png"}, {"id": "00.png", "question": "Why?"}]
    write(tmp_path / "q.jsonl", lines)
    with (tmp_path / "q.jsonl").open("ab") as file:
        file.write(b'{"id": "torn')
    with chat_server(lambda n, body: asked(body)) as server:
        done = ask(vd100k, server, "task=answer", "task.questions=q.jsonl")
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 2, "each question is asked once"
        ask(vd100k, server, "task=answer", "task.questions=q.jsonl")
        assert len(server.requests) == 2
    answered = {(row["id"], row["question"], row["answer"]) for row in rows(tmp_path, "answer")}
    assert answered == {("00.png", "{{ 1 }} 多少?", "{{ 1 }} 多少?"), ("00.png", "Why?", "Why?")}
    failures = [(row["id"], row["reason"]) for row in rows(tmp_path, "answer", "gpt-4o.failures")]
    assert failures == [
        ("elsewhere.png", "image_missing"),
        ("q.jsonl, line 4", "incomplete"),
        ("q.jsonl, line 6", "bad_line"),
    ]


def test_a_question_is_not_asked_about_an_image_that_has_changed_since(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: "What?") as server:
        assert ask(vd100k, server, "task=question").returncode == 0
        draw_pictures(pictures, 1, seed=7)
        ask(vd100k, server, "task=answer", "asker=gpt-4o")
        assert len(server.requests) == 6 + 5
    failure = next(read_rows(tmp_path / "outputs/data/pictures/answer/gpt-4o.failures.jsonl"))
    assert (failure["id"], failure["reason"]) == ("00.png", "image_changed")


def test_unusual_replies_do_not_end_the_run(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    def script(n: int, body: dict[str, Any]) -> Any:
        reply = json.loads(completion("a"))
        if n == 0:
            reply["usage"] = {"prompt_tokens": None}
        elif n == 1:
            reply["choices"][0]["message"]["content"] = [{"type": "text", "text": "a"}]
        elif n == 2:
            return 429, {"Retry-After": "foo, bar"}, "{}"
        return 200, {}, json.dumps(reply)

    with chat_server(script) as server:
        done = ask(vd100k, server)
        assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path, "details")) == 6


def test_questions_about_other_images_are_an_error(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    write(tmp_path / "q.jsonl", [{"id": "x.png", "question": "Who?"}])
    done = ask(vd100k, "http://127.0.0.1:9/v1", "task=answer", "task.questions=q.jsonl")
    assert done.returncode == 1
    assert "no question is about an image of pictures" in done.stderr
    done = ask(vd100k, "http://127.0.0.1:9/v1", "task=answer", "asker=missing")
    assert "stage=generate task=question model=missing" in done.stderr


def test_a_choice_is_repaired_validated_and_retried(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    replies = ["not JSON", json.dumps(CHOICE | {"answer": "F"}), f"```json\n{json.dumps(CHOICE)}\n```"]
    with chat_server(lambda n, body: replies[n]) as server:
        done = ask(vd100k, server, "task=choice", "task.language=en", "limit=1")
        assert done.returncode == 0, done.stderr
        assert "multiple-choice" in asked(server.requests[0])
    (row,) = rows(tmp_path, "choice")
    assert {key: row[key] for key in CHOICE} == CHOICE | {"answer": "B"}
    with chat_server(lambda n, body: "never") as server:
        done = ask(vd100k, server, "task=choice", "stage.max_retries=1", "dataset=never", "limit=1")
        assert done.returncode == 1
        assert len(server.requests) == 2
    failure = next(read_rows(tmp_path / "outputs/data/never/choice/gpt-4o.failures.jsonl"))
    assert (failure["reason"], failure["attempts"]) == ("not_as_asked", 2)
    assert "never" in failure["detail"]


def test_json_that_was_cut_off_is_retried_instead_of_repaired(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    def script(n: int, body: dict[str, Any]) -> Any:
        return 200, {}, completion('{"dock": "D0', "length") if n == 0 else completion('{"dock": "D05"')

    with chat_server(script) as server:
        done = ask(vd100k, server, "task=manifest", "limit=1")
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 2
        assert server.requests[0]["messages"][0]["role"] == "system"
    (row,) = rows(tmp_path, "manifest")
    assert row["answer"] == '{"dock": "D05"}'


def test_a_custom_system_prompt_is_sent_and_trained_on(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    overrides = ["task=vqa", "task.prompt='What is it?'", "task.system_prompt='You are a clerk.'"]
    with chat_server(lambda n, body: "a") as server:
        assert ask(vd100k, server, *overrides).returncode == 0
        assert server.requests[0]["messages"][0] == {"role": "system", "content": "You are a clerk."}
    done = vd100k("stage=convert", "dataset=pictures", "answers=gpt-4o", *overrides, "model=qwen2-vl-2b")
    assert done.returncode == 0, done.stderr
    record = next(read_rows(tmp_path / "outputs/data/pictures/vqa/gpt-4o.swift/train.jsonl"))
    assert record["messages"][0] == {"role": "system", "content": "You are a clerk."}


def test_a_prompt_with_an_unknown_variable_is_an_error(vd100k: Callable[..., Result], pictures: Path) -> None:
    with chat_server(lambda n, body: "a") as server:
        done = ask(vd100k, server, "task=vqa", "task.prompt='{{ caption }}?'")
    assert done.returncode == 1
    assert "The only variable is {{ question }}" in done.stderr


def test_the_cost_is_counted_if_the_price_is_known(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: "a") as server:
        done = ask(vd100k, server, "model.price={prompt: 1000, completion: 10000}")
        assert done.returncode == 0, done.stderr
        assert "for $0.2220" in done.stdout  # 6 x (7 x 1000 + 3 x 10000) / 1e6
        assert summary(tmp_path)["counts"]["cost"] == 0.222
        ask(vd100k, server, "model.price=null", "dataset=free")
    assert summary(tmp_path)["counts"]["cost"] is None
