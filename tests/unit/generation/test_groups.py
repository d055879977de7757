"""Several images in one question, and several questions in one conversation, on the real command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chat_server import Reply, chat_server
from tests.unit.generation.test_run import Result, ask, summary
from vd100k.io.jsonl import read_rows, write

Row = dict[str, Any]


def listed(folder: Path, *lines: Row) -> list[str]:
    """Write a list of images, and return the overrides that ask about it."""
    write(folder / "list.jsonl", lines)
    return ["images=list.jsonl", "image_folder=pictures", "dataset=pictures"]


def rows(folder: Path, task: str = "details", name: str = "gpt-4o.jsonl") -> list[Row]:
    return list(read_rows(folder / f"outputs/data/pictures/{task}/{name}"))


def kinds(body: Row) -> list[list[str]]:
    """The role of each message, and the kinds of its parts."""
    return [
        [message["role"], *(part["type"] for part in message["content"] if isinstance(part, dict))]
        for message in body["messages"]
    ]


def texts(body: Row) -> list[str]:
    return [
        message["content"] if isinstance(message["content"], str) else message["content"][-1]["text"]
        for message in body["messages"]
    ]


def test_all_images_of_a_group_are_sent_in_order_and_once(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    pair, named = {"images": ["01.png", "00.png"]}, {"id": "scene", "images": ["02.png", "03.png", "04.png"]}
    given = listed(tmp_path, pair, named, {"image": "05.png"}, {"images": ["05.png"]}, pair)
    with chat_server(lambda n, body: f"answer {n}") as server:
        done = ask(vd100k, server, *given, "task=difference")
        assert done.returncode == 0, done.stderr
        again = ask(vd100k, server, *given, "task=difference")
        assert again.returncode == 0, again.stderr
        assert "3 answers exist already" in again.stdout
        assert sorted(kinds(body)[-1] for body in server.requests) == sorted(
            ["user", *["image_url"] * count, "text"] for count in (1, 2, 3)
        )
    found = {row["id"]: row for row in rows(tmp_path, "difference")}
    assert found.keys() == {"01.png|00.png", "scene", "05.png"}
    first = found["01.png|00.png"]
    assert [Path(path).name for path in first["images"]] == ["01.png", "00.png"]
    assert len(first["images_sha256"]) == len(first["images_mtime_ns"]) == 2
    assert "image" not in first
    assert "images" not in found["05.png"]
    sent = {len(kinds(body)[-1]): body for body in server.requests}[4]
    urls = [part["image_url"]["url"] for part in sent["messages"][-1]["content"][:2]]
    assert urls[0] != urls[1]
    assert sent["messages"][-1]["content"][-1]["text"].startswith("Describe the difference between the two pictures")


def test_only_the_group_whose_image_changed_is_asked_about_again(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    given = listed(tmp_path, {"images": ["00.png", "01.png"]}, {"images": ["02.png", "03.png"]})
    with chat_server(lambda n, body: f"answer {n}") as server:
        ask(vd100k, server, *given)
        (pictures / "03.png").write_bytes((pictures / "04.png").read_bytes())
        done = ask(vd100k, server, *given)
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 3
    assert sorted(row["id"] for row in rows(tmp_path)) == ["00.png|01.png", "02.png|03.png"]


def test_a_broken_image_fails_its_group_alone_and_is_named(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    (pictures / "01.png").write_bytes(b"no image")
    given = listed(tmp_path, {"images": ["00.png", "01.png"]}, {"images": ["02.png", "03.png"]})
    with chat_server(lambda n, body: "answer") as server:
        done = ask(vd100k, server, *given)
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 1
    [failure] = rows(tmp_path, name="gpt-4o.failures.jsonl")
    assert (failure["id"], failure["reason"]) == ("00.png|01.png", "image_unreadable")
    assert "01.png" in failure["detail"]
    assert "00.png:" not in failure["detail"]


def test_more_images_than_the_model_takes_are_refused_before_anything_is_asked(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    given = listed(tmp_path, {"image": "00.png"}, {"id": "many", "images": [f"{k % 6:02d}.png" for k in range(20)]})
    with chat_server(lambda n, body: "answer") as server:
        done = ask(vd100k, server, *given)
        assert done.returncode == 1
        assert server.requests == []
        assert "group many: it has 20 images, and the model takes 4" in done.stderr
        assert "model.images_per_prompt" in done.stderr
        done = ask(vd100k, server, *given, "model.images_per_prompt=20")
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"images": []}, "incomplete"),
        ({"images": ["00.png", 3]}, "incomplete"),
        ({"images": ["00.png", "../secret.png"]}, "image_outside"),
        ({"id": "one", "images": ["00.png", "02.png"]}, "repeated_id"),
        ({"image": "00.png", "questions": "Why?"}, "incomplete"),
        ({"image": "00.png", "questions": ["Why?", "Why?"]}, "incomplete"),
    ],
)
def test_a_bad_line_is_a_failure_of_its_own(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path, line: Row, reason: str
) -> None:
    given = listed(tmp_path, {"id": "one", "images": ["00.png", "01.png"]}, line)
    with chat_server(lambda n, body: "answer") as server:
        done = ask(vd100k, server, *given)
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 1
    [failure] = rows(tmp_path, name="gpt-4o.failures.jsonl")
    assert failure["reason"] == reason
    assert "list.jsonl, line 2" in failure["detail"]


def test_a_csv_list_names_the_images_of_a_group_with_bars_between_them(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    (tmp_path / "list.csv").write_text("id,images\nfirst,00.png|01.png\n,02.png | 03.png\n")
    with chat_server(lambda n, body: "answer") as server:
        done = ask(vd100k, server, "images=list.csv", "image_folder=pictures", "dataset=pictures")
        assert done.returncode == 0, done.stderr
    assert sorted(row["id"] for row in rows(tmp_path)) == ["02.png|03.png", "first"]


def test_groups_are_found_by_name_and_by_folder(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    for k, name in enumerate(["a_before", "a_after", "b_before", "sub/c_after", "sub/c_before", "d"]):
        target = pictures / f"{name}.png"
        target.parent.mkdir(exist_ok=True)
        (pictures / f"{k:02d}.png").rename(target)
    with chat_server(lambda n, body: "answer") as server:
        done = ask(vd100k, server, "group=(.*)_(before|after)")
        assert done.returncode == 0, done.stderr
        done = ask(vd100k, server, "group=folder", "dataset=other")
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 3
    found = {row["id"]: [Path(path).stem for path in row["images"]] for row in rows(tmp_path)}
    assert found == {"a": ["a_before", "a_after"], "sub/c": ["c_before", "c_after"]}
    failures = {row["id"]: row["reason"] for row in rows(tmp_path, name="gpt-4o.failures.jsonl")}
    assert failures == {"b": "group_incomplete", "d.png": "not_grouped"}
    [other] = read_rows(tmp_path / "outputs/data/other/details/gpt-4o.jsonl")
    assert (other["id"], len(other["images"])) == ("sub", 2)
    for wrong in ("group=[", "group=before"):
        refused = ask(vd100k, "http://127.0.0.1:9/v1", wrong)
        assert refused.returncode == 1, refused.stderr
        assert "group=folder" in refused.stderr


def test_shards_split_groups_and_join(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    given = listed(tmp_path, *({"images": [f"{a:02d}.png", f"{b:02d}.png"]} for a in range(6) for b in range(3)))
    with chat_server(lambda n, body: "answer") as server:
        for shard in ("1/2", "2/2"):
            done = ask(vd100k, server, *given, f"shard={shard}")
            assert done.returncode == 0, done.stderr
        assert len(server.requests) == 18
        done = ask(vd100k, server, *given, "stage.sorted=true")
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 18
    assert len({row["id"] for row in rows(tmp_path)}) == 18


def test_questions_about_groups_are_answered(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    given = listed(tmp_path, {"id": "pair", "images": ["00.png", "01.png"]}, {"image": "02.png"})
    questions = [{"id": id, "question": text} for text in ("Which?", "Where?") for id in ("pair", "02.png")]
    write(tmp_path / "q.jsonl", questions)
    with chat_server(lambda n, body: texts(body)[-1]) as server:
        done = ask(vd100k, server, *given, "task=answer", "task.questions=q.jsonl")
        assert done.returncode == 0, done.stderr
    found = {(row["id"], row["answer"], len(row.get("images", [1]))) for row in rows(tmp_path, "answer")}
    assert found == {(id, text, count) for text in ("Which?", "Where?") for id, count in (("pair", 2), ("02.png", 1))}


def test_the_turns_of_a_conversation_are_asked_one_after_another(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    turns = "task.turns=[What is it?,Which colour?,Why?]"
    with chat_server(lambda n, body: f"answer to {texts(body)[-1]}") as server:
        done = ask(vd100k, server, "limit=2", turns)
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 6
        last = max(server.requests, key=lambda body: len(body["messages"]))
        assert kinds(last) == [
            ["user", "image_url", "text"],
            ["assistant"],
            ["user", "text"],
            ["assistant"],
            ["user", "text"],
        ]
        assert texts(last)[1:4] == ["answer to What is it?", "Which colour?", "answer to Which colour?"]
        done = ask(vd100k, server, turns)
        assert len(server.requests) == 18
        again = ask(vd100k, server, turns)
        assert "18 answers exist already" in again.stdout
        assert len(server.requests) == 18
    found = rows(tmp_path)
    assert {(row["id"], row["turn"]) for row in found} == {
        (f"{k:02d}.png", turn) for k in range(6) for turn in (1, 2, 3)
    }


def test_a_conversation_is_continued_with_the_answers_it_has(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    given = listed(
        tmp_path,
        {"image": "00.png", "questions": ["What?", "Which?", "Why?"]},
        {"images": ["01.png", "02.png"], "questions": ["Where?"]},
    )

    def refuse(n: int, body: Row) -> Reply:
        failed = texts(body)[-1] == "Which?"
        return (400, {}, '{"error": {"message": "not now"}}') if failed else f"first: {texts(body)[-1]}"

    with chat_server(refuse) as server:
        done = ask(vd100k, server, *given)
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 3
    reasons = {row["question"]: row["reason"] for row in rows(tmp_path, name="gpt-4o.failures.jsonl")}
    assert reasons == {"Which?": "http_400", "Why?": "earlier_turn"}
    with chat_server(lambda n, body: f"second: {texts(body)[-1]}") as server:
        done = ask(vd100k, server, *given, "stage.retry_failed=true")
        assert done.returncode == 0, done.stderr
        assert [texts(body)[-1] for body in server.requests] == ["Which?", "Why?"]
        assert texts(server.requests[1])[:4] == ["What?", "first: What?", "Which?", "second: Which?"]
        assert kinds(server.requests[0])[0] == ["user", "image_url", "text"]
    assert sorted(row["turn"] for row in rows(tmp_path)) == [1, 1, 2, 3]
    assert summary(tmp_path)["counts"]["failed"] == 0


def test_a_list_without_questions_is_refused_by_a_task_that_answers_them(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    given = listed(tmp_path, {"image": "00.png", "questions": ["What?"]}, {"image": "01.png"})
    with chat_server(lambda n, body: "answer") as server:
        done = ask(vd100k, server, *given, "task=answer")
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 1
    [failure] = rows(tmp_path, "answer", "gpt-4o.failures.jsonl")
    assert "questions" in failure["detail"]


def test_a_preview_shows_all_images_of_a_group(vd100k: Callable[..., Result], tmp_path: Path, pictures: Path) -> None:
    given = listed(tmp_path, {"images": ["00.png", "01.png"]}, {"images": ["02.png", "03.png"]})
    with chat_server(lambda n, body: "answer") as server:
        done = ask(vd100k, server, *given, "preview=1")
        assert done.returncode == 0, done.stderr
    page = next((tmp_path / "outputs/runs").rglob("preview.html")).read_text(encoding="utf-8")
    assert page.count("<img ") == 2
