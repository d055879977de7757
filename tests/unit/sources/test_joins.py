"""Duplicates, preference pairs and sorted answer sets, all computed on disk."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vd100k.answers.texts import normalize
from vd100k.conversion.blocks import Keys
from vd100k.io import repeats
from vd100k.io.jsonl import Fault, read, write
from vd100k.sources.joins import in_order, pairs

keys = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["q", "Q", "q?", "r", "r "])))


@pytest.mark.parametrize("chunk", [2, repeats.CHUNK])
@given(rows=keys)
def test_duplicates_are_the_rows_that_repeat_an_earlier_row(rows: list[tuple[str, str]], chunk: int) -> None:
    original, repeats.CHUNK = repeats.CHUNK, chunk
    try:
        with repeats.RepeatFinder() as finder:
            for part in (rows[:3], rows[3:]):  # keys made by different processes are equal
                keys = Keys()
                for image, question in part:
                    keys.add(image, question)
                finder.add(keys.taken())
            kinds = finder.find(exact=True, near=True)
            found = list(kinds.read()) if kinds else [repeats.NEW] * len(rows)
    finally:
        repeats.CHUNK = original
    for k, (image, question) in enumerate(rows):
        before = [q for i, q in rows[:k] if i == image and normalize(q) == normalize(question)]
        expected = repeats.NEW if not before else repeats.EXACT if question in before else repeats.NEAR
        assert found[k] == expected


sets = st.lists(st.integers(0, 12), unique=True)


@settings(deadline=None)
@given(sets, sets)
def test_every_chosen_row_becomes_a_pair_or_a_fault(chosen: list[int], rejected: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        chosen_path, rejected_path = Path(folder) / "a.jsonl", Path(folder) / "b.jsonl"
        write(chosen_path, [{"id": str(k), "question": "q", "answer": f"good {k}"} for k in chosen])
        write(rejected_path, [{"id": str(k), "question": "q", "answer": f"bad {k}"} for k in rejected])
        lines = list(pairs(partial(read, chosen_path), rejected_path))
    assert [number for number, _ in lines] == list(range(1, len(chosen) + 1))
    made = {row["id"]: row["rejected"] for _, row in lines if isinstance(row, dict)}
    assert made == {str(k): f"bad {k}" for k in chosen if k in rejected}
    assert {row.reason for _, row in lines if isinstance(row, Fault)} <= {"no_rejected"}


@settings(deadline=None)
@given(sets, sets)
def test_sorted_answers_have_the_order_of_their_questions(questions: list[int], answers: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        questions_path, answers_path = Path(folder) / "q.jsonl", Path(folder) / "a.jsonl"
        write(questions_path, [{"id": str(k), "question": f"q{k}"} for k in questions])
        write(answers_path, [{"id": str(k), "question": f"q{k}", "answer": "a"} for k in answers])
        lines = list(in_order(answers_path, questions_path))
    assert [int(row["id"]) for _, row in lines if isinstance(row, dict)] == [k for k in questions if k in answers]
    assert len(lines) == len(answers)
