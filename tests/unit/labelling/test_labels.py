"""Labels read from the ledger and from files made elsewhere, and what they say about rows together."""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.inputs import damaged, lines, with_odd_values
from vd100k.errors import DataError
from vd100k.io import jsonl
from vd100k.labelling.judgements import Judgement, of_rows
from vd100k.labelling.labels import Label, Labels, answer_sha256, path_beside, read

ROW = {"id": "a.png", "question": "What?", "answer": "a cat"}


def labels(*given: Label) -> Labels:
    return Labels(given, ())


def label(right: bool | None = True, corrected: str | None = None, by: str = "ann", answer: str = "a cat") -> Label:
    return Label("a.png", "What?", answer_sha256(answer), right, corrected, by)


def judged(*given: Label) -> Judgement | None:
    return of_rows(labels(*given), [ROW]).rows.get(("a.png", "What?"))


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_labels_of_rows_are_beside_them() -> None:
    assert path_beside(Path("data/gpt-4.1.jsonl")) == Path("data/gpt-4.1.labels.jsonl")


def test_a_file_made_elsewhere_needs_little(tmp_path: Path) -> None:
    made = tmp_path / "labels.csv"
    made.write_text(
        "image,label,corrected\na.png,wrong,a dog\nb.png,对,\nc.png,skip,\nd.png,maybe,\n", encoding="utf-8"
    )
    found = read(made)
    assert found.given == (
        Label("a.png", None, None, False, "a dog"),
        Label("b.png", None, None, True),
        Label("c.png", None, None, None),
    )
    assert found.faults == (f"{made}, line 5 is skipped: 'maybe' is neither true nor false",)


def test_lines_that_are_no_labels_are_named(tmp_path: Path) -> None:
    path = written(
        tmp_path / "l.jsonl", {"right": True}, {"id": "a.png"}, {"id": 7, "correct": 1}, {"id": [], "right": 1}
    )
    path.write_bytes(path.read_bytes() + b'{"id": "torn')
    found = read(path)
    assert found.given == (Label("7", None, None, True),)
    assert [fault.split(" is skipped: ")[1].split(":")[0] for fault in found.faults] == [
        "it has no id of an image",
        "it has none of right, correct, label and corrected",
        "it has no id of an image",
        "not JSON",
    ]


def test_a_table_without_a_verdict_names_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,answer\na.png,cat\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column right or correct or label or corrected; columns found: id, answer"):
        read(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read(tmp_path / "none.jsonl")


def test_the_last_label_of_a_person_counts() -> None:
    assert judged(label(True), label(False)) == Judgement(False, None, ("ann",), False, None)
    assert judged(label(False), label(None)) is None
    assert judged(label(None), label(True)) == Judgement(True, None, ("ann",), False, None)


def test_people_who_disagree_count_as_wrong_without_a_correction() -> None:
    both = of_rows(labels(label(True, by="ann"), label(False, "a dog", by="bo")), [ROW])
    assert both.rows == {("a.png", "What?"): Judgement(False, None, ("ann", "bo"), True, None)}
    assert both.notes() == ["People disagree about 1 of the labelled rows, which count as wrong."]
    agree = judged(label(False, "a dog", by="ann"), label(False, "a dog", by="bo"))
    assert agree == Judgement(False, "a dog", ("ann", "bo"), False, None)
    apart = judged(label(False, "a dog", by="ann"), label(False, "a pig", by="bo"))
    assert apart == Judgement(False, None, ("ann", "bo"), False, None)


def test_a_label_of_another_answer_is_not_used_and_returns_with_it() -> None:
    old = label(False, answer="a pig")
    found = of_rows(labels(old), [ROW])
    assert not found.rows
    assert found.notes() == ["Labels that are not used: 1 about an answer that has changed since."]
    assert judged(label(True), old) == Judgement(True, None, ("ann",), False, None)


def test_a_correct_answer_alone_decides() -> None:
    assert judged(Label("a.png", None, None, None, " a cat\n")) == Judgement(True, None, ("",), False, None)
    assert judged(Label("a.png", None, None, None, "a dog")) == Judgement(False, "a dog", ("",), False, None)


def test_labels_about_other_images_or_several_questions_are_counted() -> None:
    rows = [ROW, {"id": "a.png", "question": "Where?", "answer": "here"}]
    found = of_rows(labels(Label("a.png", None, None, True), Label("z.png", None, None, True)), rows)
    assert not found.rows
    assert +found.unused == {"ambiguous": 1, "elsewhere": 1}
    assert len(found.notes()) == 1


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=20)
LABELS = st.builds(
    Label,
    id=TEXTS.filter(bool),
    question=TEXTS.filter(bool) | st.none(),
    answer_sha256=st.none() | TEXTS.map(answer_sha256),
    right=st.booleans() | st.none(),
    corrected=st.none() | TEXTS.filter(bool),
    by=TEXTS,
    when=TEXTS,
    stratum=st.none() | TEXTS.filter(bool),
)


@given(st.lists(LABELS, max_size=8))
def test_any_labels_are_read_back_from_jsonl_and_csv(
    tmp_path_factory: pytest.TempPathFactory, given: list[Label]
) -> None:
    folder = tmp_path_factory.mktemp("labels")
    jsonl.write(folder / "labels.jsonl", map(vars, given))
    assert read(folder / "labels.jsonl") == Labels(tuple(given), ())
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(Label.__dataclass_fields__))
        table.writeheader()
        table.writerows(map(vars, given))
    assert read(folder / "labels.csv") == Labels(tuple(given), ())


EXAMPLE = {"id": "a.png", "question": "What?", "right": False, "corrected": "a dog", "by": "ann"}
TABLE = b'id,question,right,corrected\r\na.png,What?,wrong,"a ""big"" dog"\r\nb.png,What?,1,\r\n'


@given(damaged(lines([EXAMPLE])) | st.lists(with_odd_values(EXAMPLE), max_size=3).map(lines))
def test_damaged_lines_are_labels_or_faults(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    path.write_bytes(content)
    of_rows(read(path), [ROW])


@given(damaged(TABLE))
def test_damaged_tables_are_labels_faults_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        of_rows(read(path), [ROW])


def test_values_that_are_nested_deeply_are_no_error(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    nested = "[" * 1000 + "]" * 1000
    path.write_text("".join(f'{{"id": "a.png", "{name}": {nested}}}\n' for name in ("corrected", "right", "id")))
    found = read(path)
    assert len(found.given) + len(found.faults) == 3
    of_rows(found, [ROW])


@given(st.lists(LABELS, max_size=8), st.lists(st.fixed_dictionaries({"id": TEXTS, "question": TEXTS, "answer": TEXTS})))
def test_every_label_is_used_or_counted(given: list[Label], rows: list[dict[str, str]]) -> None:
    about = [{"id": label.id, "question": label.question or "", "answer": ""} for label in given[::2]]
    found = of_rows(labels(*given), [*rows, *about])
    assert set(found.rows) <= {(row["id"], row["question"]) for row in [*rows, *about]}
    if given:
        assert found.rows or found.unused.total()
