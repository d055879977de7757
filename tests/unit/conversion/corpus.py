"""Rows of every kind that a conversion meets, good and bad, drawn by a seed: always the same bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
Change = Callable[[Row, random.Random], Any]

IMAGES = [f"{folder}{k:02}.png" for folder in ("", "./", "a/") for k in range(12)]
QUESTIONS = [
    "What is it?",
    "what is  it",
    "What is it",
    "是什么？",
    "是 什么",
    "Ｗｈａｔ？",
    "Is <image> red?",
    "?",
    "Straße",
]
ANSWERS = [
    *(
        "It is red.",
        "A dog stands beside a house.",
        "一只狗。",
        "i'm sorry, but I cannot",
        "  Sorry, no.",
        "抱歉，无法回答",
    ),
    *("What is it!", " ", "!" * 40 + " \n", "ab" * 30, "1" * 60, "yes no " * 9, "an <image> tag", '{"n": 1}', "{oops"),
    *("ſorry, it ends", "In the picture is a “cat”.\tIt sleeps.", "\u3000", "😀 smiles", "word " * 300, "是" * 500),
]
OTHERS = [None, True, 7, 1.5, 2**70, [], ["00.png"], [[]], {}, {"path": "00.png"}, "", "stop", "\u0000", float("nan")]
NAMES = ["id", "image", "images", "question", "answer", "split", "model", "finish_reason", "messages", "boxes"]


def _said(draw: random.Random) -> list[Row]:
    role, text = draw.choice([("role", "content"), ("from", "value")])
    roles = draw.choice([["user", "assistant"], ["human", "gpt"]]) * draw.randint(1, 3)
    said = [{role: who, text: draw.choice(ANSWERS[:3])} for who in roles]
    said = draw.choice([[], [{role: "system", text: "Be brief."}]]) + said
    return said[: len(said) - draw.choice([0, 0, 0, 1])]


def _choices(row: Row, draw: random.Random) -> Row:
    given = {f"choice{letter}": draw.choice(ANSWERS[:3]) for letter in "ABCD"[: draw.choice([4, 4, 3])]}
    return row | given | {"answer": draw.choice("ABCD")}


def _messages(row: Row, draw: random.Random) -> Row:
    kept = {key: row[key] for key in ("id", "image") if draw.random() < 0.9}
    return kept | {draw.choice(["messages", "conversations"]): _said(draw)}


def _boxes(row: Row, draw: random.Random) -> Row:
    corners = [draw.randint(-2, 60) for _ in range(4)]
    return row | {"boxes": [{"label": draw.choice(["dog", "", "a “cat”"]), "box": corners}], "answer": None}


CHANGES: list[Change] = [
    *[lambda row, draw: row] * 12,
    lambda row, draw: row | {"answer": draw.choice(ANSWERS), "question": draw.choice(QUESTIONS)},
    lambda row, draw: row | {draw.choice(NAMES): draw.choice(OTHERS)},
    lambda row, draw: {key: value for key, value in row.items() if key != draw.choice(NAMES)},
    lambda row, draw: row | {"images": draw.sample(IMAGES, draw.randint(0, 3))},
    lambda row, draw: row | {"images": "00.png| 01.png"},
    lambda row, draw: {"id": f"text{draw.randint(0, 99)}", "question": row["question"], "answer": "Yes."},
    lambda row, draw: row | {"split": draw.choice(["train", "valid", "val", "test", "other"])},
    lambda row, draw: row | {"finish_reason": "length"},
    lambda row, draw: row | {"turn": draw.randint(1, 3), "image": "07.png"},
    lambda row, draw: row | {"image": draw.choice(["../x.png", "/etc/passwd", "b.png", "x" * 300])},
    lambda row, draw: row | {"system": "You are terse.", "model": "other"},
    lambda row, draw: row | {"image_sha256": draw.choice("ab") * 64, "image_mtime_ns": 1},
    lambda row, draw: row | {"rejected": draw.choice([*ANSWERS, None, 3])},
    lambda row, draw: row | {"id": draw.randint(0, 5)},
    _choices,
    _messages,
    _boxes,
]
LINES = [b"", b"  ", b"[1, 2]", b'{"id": "torn', b"\xff\xfe", b'{"id": "\xff"}', b"null", b"[" * 1200 + b"]" * 1200]


def row(number: int, draw: random.Random) -> Any:
    """A row; one in three has something unusual."""
    name = draw.choice(IMAGES[: 12 + number % 24])
    plain = {"id": name, "image": name, "question": f"What is {number}?", "answer": f"It is {number}.", "model": "m"}
    return draw.choice(CHANGES)(plain, draw)


def lines(count: int, seed: int = 0) -> bytes:
    """A JSONL file of so many lines, some of which hold no row, or repeat an earlier one."""
    draw = random.Random(seed)
    made: list[bytes] = []
    for number in range(count):
        kind = draw.random()
        if kind < 0.04:
            made.append(draw.choice(LINES))
        elif kind < 0.08 and made:
            made.append(draw.choice(made))
        else:
            text = json.dumps(row(number, draw), ensure_ascii=draw.random() < 0.3)
            made.append(text.encode() + draw.choice([b"", b"", b"", b"\r"]))
    return b"\xef\xbb\xbf" + b"\n".join(made)
