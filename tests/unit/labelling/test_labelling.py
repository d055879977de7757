"""The rows that are drawn, the ledger of a person, the session, and a row as HTML."""

from __future__ import annotations

import html
import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vd100k.boxes import frames
from vd100k.errors import DataError
from vd100k.labelling.labels import identity, read
from vd100k.labelling.ledger import Ledger, last_labels
from vd100k.labelling.sample import Drawn, Rows, by_score, uniform, with_earlier_turns
from vd100k.labelling.session import Session, Tally
from vd100k.labelling.view import View
from vd100k.pages.pictures import UNKNOWN

BOX = "<ref>x</ref><box>(100,100),(900,900)</box>"
NASTY = "<script>alert(1)</script><img src=http://192.0.2.1/x onerror=alert(1)>${1}{{2}}"


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"{k}.png", "image": f"{k}.png", "question": "What?", "answer": f"answer {k}"} for k in range(count)]


def ids(drawn: list[Drawn]) -> list[str]:
    return [one.row["id"] for one in drawn]


@given(st.integers(0, 60), st.integers(1, 80), st.integers(), st.randoms(use_true_random=False))
def test_a_sample_is_the_beginning_of_a_larger_one_in_whatever_order_the_rows_are(
    total: int, count: int, seed: int, shuffler: Any
) -> None:
    given = rows(total)
    small, large = ids(uniform(given, count, seed)), ids(uniform(given, count + 7, seed))
    assert large[: len(small)] == small
    assert len(set(small)) == len(small) == min(total, count)
    shuffler.shuffle(given)
    assert ids(uniform(given, count, seed)) == small


def test_every_row_is_drawn_equally_often() -> None:
    given, draws = rows(20), 2000
    found = Counter(id for seed in range(draws) for id in ids(uniform(given, 5, seed)))
    assert all(abs(found[row["id"]] - draws * 5 / 20) < 110 for row in given)  # five standard deviations


def test_strata_take_turns_and_are_named() -> None:
    given = rows(100)
    scores = {row["id"]: 0.1 if k < 10 else 0.95 for k, row in enumerate(given)} | {"99.png": None}
    drawn = by_score(given, 30, 1, lambda row: scores[row["id"]])
    assert Counter(one.stratum for one in drawn) == {"0 to 0.2": 10, "0.8 to 1": 20}
    assert [one.stratum for one in drawn[:4]] == ["0 to 0.2", "0.8 to 1"] * 2
    assert "99.png" not in ids(drawn)
    assert ids(by_score(given, 6, 1, lambda row: scores[row["id"]])) == ids(drawn[:6])
    assert by_score(given, 5, 1, lambda row: 1.0)[0].stratum == "0.8 to 1"


def test_a_turn_is_shown_with_the_turns_before_it(tmp_path: Path) -> None:
    turns = [{"id": "a.png", "question": f"q{k}", "answer": f"a{k}", "turn": k} for k in (3, 1, 2)]
    sample = with_earlier_turns([Drawn(turns[0]), Drawn(turns[1])], [*turns, *rows(3)])
    assert [[one["turn"] for one in drawn.earlier] for drawn in sample] == [[1, 2], []]
    with Ledger(tmp_path / "l.jsonl", "ann") as ledger:
        page = View(Session(sample, ledger), str(tmp_path), frames.named(None, UNKNOWN)).page(0)
    assert [page.index(text) for text in ("q1", "a1", "q2", "a2", "q3", "a3")] == sorted(
        page.index(text) for text in ("q1", "a1", "q2", "a2", "q3", "a3")
    )
    assert "<img" not in page  # a question about text alone
    assert "cannot be shown" not in page


def test_lines_that_cannot_be_shown_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "question": "q", "answer": "x"}\n{"id": "b", "question": "q"}\n[]\n', encoding="utf-8")
    found = Rows(path)
    assert ids(uniform(found, 9, 1)) == ["a"]
    assert (found.total, found.unusable) == (1, 2)


def test_labels_survive_and_the_last_one_counts(tmp_path: Path) -> None:
    path, drawn = tmp_path / "new" / "m.labels.jsonl", uniform(rows(3), 3, 1)
    with Ledger(path, "ann") as ledger:
        ledger.append(drawn[0], True)
        ledger.append(drawn[0], False, "another")
        ledger.append(drawn[1], None)
        first = ledger.of(drawn[0])
        assert first
        assert (first.right, first.corrected) == (False, "another")
        with pytest.raises(DataError, match="another page appends labels to it"):
            Ledger(path, "bo").__enter__()
    path.write_bytes(path.read_bytes() + b'{"id": "to')
    with Ledger(path, "ann") as again:
        assert again.of(drawn[0]) == first
        assert again.of(drawn[2]) is None
        assert again.faults == ()
    with Ledger(path, "bo") as other:
        assert other.of(drawn[0]) is None
    changed = Drawn(drawn[0].row | {"answer": "new"})
    mine, _ = last_labels(path, "ann")
    assert identity(changed.row) not in mine
    assert len(read(path).given) == 3


def test_a_session_goes_to_the_next_row_without_a_label(tmp_path: Path) -> None:
    sample = uniform(rows(4), 4, 1)
    with Ledger(tmp_path / "l.jsonl", "ann") as ledger:
        session = Session(sample, ledger)
        assert session.next_open() == 0
        session.label(0, True, sample[0].row["answer"])
        session.label(2, False, " other\n")
        session.label(3, None, "other")
        assert session.next_open(3) == 1
        assert session.tally == Tally(rows=4, right=1, wrong=1, corrected=1, skipped=1)
        session.label(1, False, sample[1].row["answer"] + "\r\n")
        assert session.next_open() is None
        assert session.tally.estimate == "2 of 3 wrong: 67 % (21 to 94)"
        assert [label.corrected for label in read(ledger.path).given] == [None, "other", None, None]
        with pytest.raises(ValueError, match="press w to save it as wrong"):
            session.label(0, True, "other")


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append(tag)


def test_html_in_a_row_is_text_and_images_elsewhere_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("in.png", "photo.jpg"):
        Image.new("RGB", (40, 30), "red").save(folder / name)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "out.png")
    names = [str(folder / "in.png"), "../out.png", NASTY, None]
    given = [
        {"id": NASTY, "question": f"{NASTY}{k}", "answer": {"text": NASTY}, "image": name, "choiceA": NASTY}
        for k, name in enumerate(names)
    ]
    given.append({"id": "two", "question": "Which?", "answer": BOX, "images": names[:1] * 2})
    given.append({"id": "box", "question": "Where?", "answer": BOX, "image": "photo.jpg"})
    with Ledger(tmp_path / "l.jsonl", NASTY) as ledger:
        view = View(Session([Drawn(row) for row in given], ledger), str(folder), frames.named(None, UNKNOWN))
        pages = [view.page(k, NASTY) for k in range(len(given))]
        view.session.label(0, False, NASTY)
        pages.append(view.page(0))
    allowed = {"article", "p", "b", "progress", "div", "img", "h2", "span"}
    for page in pages:
        assert set(Tags(page).tags) <= allowed
        assert "onerror=alert(1)>" not in page
    assert [Tags(page).tags.count("img") for page in pages] == [1, 0, 0, 0, 2, 1, 1]
    assert "not in" in pages[1]
    assert json.dumps({"text": NASTY}) in html.unescape(pages[0])
    assert len({page.split('data-shown="')[1].split('"')[0] for page in pages}) == len(pages)
