"""How answers are compared with their labels."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from vd100k.boxes.box import Box
from vd100k.config.run import Run
from vd100k.evaluation import metrics
from vd100k.evaluation.metrics import ALWAYS, METRICS, OF_BOXES, Case, faults, mean, score

LABEL = {"count": 2, "colour": "red"}
OF_TEXT = [name for name in METRICS if not METRICS[name].boxes]


def value(name: str, answer: str | None, label: object, reader: str = "text") -> float:
    return score(Case(answer, label, reader), [name])[name]


@pytest.mark.parametrize(
    ("answer", "exact", "valid", "fields"),
    [
        ('{"colour": "red", "count": 2}', 1, 1, 1),
        ('{"colour": "red", "count": 3}', 0, 1, 0.5),
        ('{"colour": "red", "count": "2"}', 0, 1, 0.5),
        ('{"colour": "red", "count": 2, "more": 1}', 0, 1, 1),
        ("[2, 1]", 0, 1, 0),
        ("two red", 0, 0, 0),
        ("", 0, 0, 0),
        (None, 0, 0, 0),
    ],
)
def test_a_json_answer_is_scored_by_its_fields(answer: str | None, exact: float, valid: float, fields: float) -> None:
    assert score(Case(answer, LABEL, "json"), ()) == dict(zip(ALWAYS, (exact, valid, fields), strict=True))


def test_true_differs_from_one_and_null_is_an_answer() -> None:
    assert value("exact_match", '{"n": true}', {"n": 1}) == 0
    assert value("exact_match", "null", None) == 1
    assert value("exact_match", None, None) == 0


def test_a_text_answer_is_compared_without_surrounding_space() -> None:
    cat, dog = (score(Case(answer, "a cat"), ()) for answer in (" a cat \n", "a dog"))
    assert mean([cat, dog])["exact_match"] == 0.5
    assert mean([]) == {"exact_match": 0, "valid_json": 0, "field_accuracy": 0}


def test_a_list_of_texts_has_several_correct_answers_unless_the_answer_is_json() -> None:
    for name in ("exact_match", "anls", "rouge_l", "chrf", "multiple_choice", "field_values", "field_accuracy"):
        assert value(name, "four", ["4", "four"]) == pytest.approx(1), name
    assert value("exact_match", '["4", "four"]', ["4", "four"]) == 1
    assert value("exact_match", "four", ["4", "four"], "json") == 0


@pytest.mark.parametrize(
    ("answer", "label", "expected"),
    [
        ("INVOICE 12", "invoice 12", 1),
        ("invoice 13", "invoice 12", 0.9),
        ("ab12", "ab34", 0),  # half of the characters are wrong
        ("abc1", "abc4", 0.75),
        ("nothing like it", "invoice 12", 0),
        (None, "", 0),
    ],
)
def test_anls_is_the_similarity_above_a_half(answer: str | None, label: str, expected: float) -> None:
    assert value("anls", answer, label) == pytest.approx(expected)


def test_rouge_and_chrf_know_words_in_order_and_parts_of_words() -> None:
    assert value("rouge_l", "a red cat on a mat", "a cat on the mat") == pytest.approx(2 * 4 / (6 + 5))
    assert value("rouge_l", "一只红猫", "一只猫") == pytest.approx(2 * 3 / (4 + 3))
    assert value("rouge_l", "猫一只", "一只猫") == pytest.approx(2 / 3)
    assert 0.5 < value("chrf", "running cats", "running cat") < 1
    assert value("chrf", "一只红色的猫", "一只红色的猫") == pytest.approx(1)
    assert 0 < value("chrf", "一只红猫", "一只黑猫") < value("chrf", "一只红猫", "一只红色的猫")
    assert value("rouge_l", None, "a cat") == value("chrf", None, "a cat") == 0


WORDS = st.lists(st.sampled_from(["red", "cat", "mat", "on", "two"]), min_size=1, max_size=8).map(" ".join)


@given(WORDS, WORDS)
def test_rouge_of_english_is_that_of_its_package(answer: str, label: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    assert value("rouge_l", answer, label) == RougeScorer(["rougeL"]).score(label, answer)["rougeL"].fmeasure


@pytest.mark.parametrize(
    ("answer", "label", "right"),
    [
        *(("B", "B", 1), ("(b)", "B", 1), ("B. a cat", "b", 1), ("答案：B", "B", 1), ("a cat", "A cat.", 1)),
        *(("C", "B", 0), ("a dog", "B", 0), ("", "B", 0)),
    ],
)
def test_multiple_choice_counts_the_letter(answer: str, label: str, right: float) -> None:
    assert value("multiple_choice", answer, label) == right


@pytest.mark.parametrize(
    ("found", "label"),
    [("12.0", 12), ("1,250.50", "1250.5"), ("March 1, 2024", "2024-03-01"), ("Main  Street", "main street."), (3, "3")],
)
def test_field_values_are_compared_as_what_they_are(found: object, label: object) -> None:
    answer = json.dumps({"a": found, "b": 1})
    assert value("field_values", answer, {"a": label, "b": 1}, "json") == 1
    assert value("field_accuracy", answer, {"a": label, "b": 1}, "json") == 0.5


def test_boxes_are_compared_by_their_overlap() -> None:
    label = [{"label": "cat", "box": [0, 0, 10, 10]}]
    close, far = Box("cat", (0, 0, 10, 8)), Box("cat", (20, 20, 30, 30))
    found = score(Case("…", label, "boxes", [close]), OF_BOXES)
    assert found == {"exact_match": 1, "valid_json": 1, "field_accuracy": 1, "mean_iou": 0.8, "iou_over_half": 1}
    assert score(Case("…", label, "boxes", [far]), OF_BOXES)["mean_iou"] == 0
    assert set(score(Case("…", label, "boxes", None), OF_BOXES).values()) == {0}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=8
)
LABELS = st.text() | st.dictionaries(st.text(), json_values) | st.lists(st.text())


@given(st.none() | st.text(), LABELS, st.sampled_from(["text", "json"]))
def test_every_score_is_between_0_and_1(answer: str | None, label: object, reader: str) -> None:
    assert all(0 <= value <= 1 for value in score(Case(answer, label, reader), OF_TEXT).values())


@given(st.dictionaries(st.text(), json_values, min_size=1))
def test_the_label_itself_is_a_correct_answer(label: dict[str, object]) -> None:
    found = score(Case(json.dumps(label), label, "json"), ["field_values"])
    assert set(found.values()) == {1}


def test_every_metric_has_a_title_and_says_what_it_is() -> None:
    assert len({one.title for one in METRICS.values()}) == len(METRICS)
    assert all(inspect.getdoc(one.score) for one in METRICS.values())


def test_a_task_chooses_its_metrics_and_mistakes_are_named(parsed: Callable[..., Run]) -> None:
    def task(*overrides: str) -> list[str]:
        return list(faults(parsed("stage=serve", *overrides).task))

    assert task("task=details") == task("task=scene") == task("task=grounding") == []
    assert task("task=scene", "task.metrics=[anls,exactmatch]") == [
        "task=scene: task.metrics contains exactmatch, which is no metric: did you mean exact_match?"
    ]
    assert "the metrics are exact_match, valid_json" in task("task=scene", "task.metrics=[zzz]")[0]
    assert "compares boxes" in task("task=scene", "task.metrics=[mean_iou]")[0]
    assert "compares texts" in task("task=grounding", "task.metrics=[anls]")[0]
    assert metrics.main(parsed("stage=serve", "task=grounding").task) == "mean_iou"
    assert metrics.main(parsed("stage=serve", "task=vqa").task) == "exact_match"


def test_the_libraries_of_metrics_are_imported_only_if_they_are_used() -> None:
    code = "import json, sys; import vd100k.evaluation.comparison; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"rouge_score", "nltk", "sacrebleu", "rapidfuzz", "dateutil", "scipy"} & set(json.loads(done.stdout))
