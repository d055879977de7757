"""DuplicateFinder found and answer sets brought together on disk."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vd100k.conversion import dedup
from vd100k.conversion.joins import in_order, pairs
from vd100k.io.jsonl import Fault, read, write

keys = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["q", "Q", "q?", "r", "r "])))


@pytest.mark.parametrize("chunk", [2, dedup.CHUNK])
@given(rows=keys)
def test_a_repeat_is_what_came_before(rows: list[tuple[str, str]], chunk: int) -> None:
    was, dedup.CHUNK = dedup.CHUNK, chunk
    try:
        with dedup.DuplicateFinder() as seen:
            for image, question in rows:
                seen.add(image, question)
            marks = seen.found(exact=True, near=True)
            found = list(marks.read()) if marks else [dedup.NEW] * len(rows)
    finally:
        dedup.CHUNK = was
    for k, (image, question) in enumerate(rows):
        before = [q for i, q in rows[:k] if i == image and dedup.normalize(q) == dedup.normalize(question)]
        wanted = dedup.NEW if not before else dedup.EXACT if question in before else dedup.NEAR
        assert found[k] == wanted


sets = st.lists(st.integers(0, 12), unique=True)


@settings(deadline=None)
@given(sets, sets)
def test_every_row_of_a_pairing_is_accounted_for(chosen: list[int], rejected: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder) / "a.jsonl", Path(folder) / "b.jsonl"
        write(one, [{"id": str(k), "question": "q", "answer": f"good {k}"} for k in chosen])
        write(other, [{"id": str(k), "question": "q", "answer": f"bad {k}"} for k in rejected])
        lines = list(pairs(partial(read, one), other))
    assert [number for number, _ in lines] == list(range(1, len(chosen) + 1))
    made = {row["id"]: row["rejected"] for _, row in lines if isinstance(row, dict)}
    assert made == {str(k): f"bad {k}" for k in chosen if k in rejected}
    assert {row.reason for _, row in lines if isinstance(row, Fault)} <= {"no_rejected"}


@settings(deadline=None)
@given(sets, sets)
def test_sorted_answers_follow_the_questions(questions: list[int], answers: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asked, said = Path(folder) / "q.jsonl", Path(folder) / "a.jsonl"
        write(asked, [{"id": str(k), "question": f"q{k}"} for k in questions])
        write(said, [{"id": str(k), "question": f"q{k}", "answer": "a"} for k in answers])
        lines = list(in_order(said, asked))
    assert [int(row["id"]) for _, row in lines if isinstance(row, dict)] == [k for k in questions if k in answers]
    assert len(lines) == len(answers)
