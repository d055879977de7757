"""How close an answer is to its label: one small function a metric, chosen by name in the file of a task.

A new metric is one function with ``@metric`` here, and its name in a task's ``metrics``. Every figure is in 0..1.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

from vd100k.answers.texts import letter, normalize, words
from vd100k.answers.values import equal, fields, same
from vd100k.boxes import matching
from vd100k.boxes.box import Box, from_row
from vd100k.config.run import Task

Scores = dict[str, float]  # the figures of one answer, or the means of many, by the name of the metric
ALWAYS = ("exact_match", "valid_json", "field_accuracy")  # in every summary, whatever a task chooses
JUDGED = "judge"  # what a judge prefers (the package preference): of 1 for each image, the share of each side
OF_BOXES = (*ALWAYS, "mean_iou", "iou_over_half")
ANLS_THRESHOLD = 0.5  # of Biten et al.: an answer with more than half of its characters wrong is another answer


@dataclass(frozen=True)
class Case:
    """One answer and its label. A missing answer is None; ``boxes`` are those in it, None if they cannot be read."""

    answer: str | None
    label: Any
    reader: str = "text"
    boxes: list[Box] | None = None

    @property
    def text(self) -> str:
        return (self.answer or "").strip()

    @property
    def has_several(self) -> bool:
        """Whether the label is a list of texts, each of which is correct; in a task that answers in JSON it is not."""
        several = isinstance(self.label, list) and self.reader != "json"
        return several and bool(self.label) and all(isinstance(one, str) for one in self.label)

    @property
    def accepted(self) -> list[str]:
        """The texts that are correct: the label, or each text of a list."""
        if self.has_several:
            return [one.strip() for one in self.label]
        return [self.label.strip() if isinstance(self.label, str) else json.dumps(self.label, ensure_ascii=False)]

    @functools.cached_property
    def parsed(self) -> tuple[bool, Any]:
        """Whether the answer is JSON, and its content."""
        try:
            return True, json.loads(self.answer or "")
        except (ValueError, RecursionError):
            return False, None

    @functools.cached_property
    def overlap(self) -> matching.Agreement:
        """How well the boxes agree with those of the label; not at all if they cannot be read."""
        if self.boxes is None:
            return matching.Agreement(0.0, 0.0)
        return matching.agreement(self.boxes, from_row(self.label))


class Metric(NamedTuple):
    """``package`` is what it imports from (its name to install, its module); ``boxes``: it compares boxes."""

    title: str
    score: Callable[[Case], float]
    package: tuple[str, str] | None
    boxes: bool


METRICS: dict[str, Metric] = {}


def metric(
    title: str, package: tuple[str, str] | None = None, boxes: bool = False
) -> Callable[[Callable[[Case], float]], Callable[[Case], float]]:
    """Register a function as the metric of its name; ``title`` is how tables call it."""

    def register(function: Callable[[Case], float]) -> Callable[[Case], float]:
        METRICS[function.__name__] = Metric(title, function, package, boxes)
        return function

    return register


@metric("exact match")
def exact_match(case: Case) -> float:
    """Equal as JSON if the label is structured, as stripped text if it is text, or to one of several such texts.

    Of boxes: each one is found with an intersection over union (IoU) of at least 0.5, and none is too many.
    """
    if case.reader == "boxes":
        return case.boxes is not None and case.overlap.over_half == 1
    if isinstance(case.label, str):
        return case.answer is not None and case.text in case.accepted
    valid, parsed = case.parsed
    return (valid and equal(parsed, case.label)) or (case.has_several and case.text in case.accepted)


@metric("valid JSON")
def valid_json(case: Case) -> float:
    """The answer is JSON; of boxes: they can be read."""
    return case.boxes is not None if case.reader == "boxes" else case.parsed[0]


@metric("correct fields")
def field_accuracy(case: Case) -> float:
    """The share of the label's fields, including nested ones, that have exactly the correct value; a field is a box."""
    if case.reader == "boxes":
        return case.overlap.over_half
    if isinstance(case.label, str) or exact_match(case):
        return exact_match(case)
    return _share_of_fields(case, equal)


@metric("field values")
def field_values(case: Case) -> float:
    """The share of the label's fields whose value says the same, numbers and dates as such: ``answers.values.same``."""
    if isinstance(case.label, str) or case.has_several:
        return case.answer is not None and any(same(case.text, one) for one in case.accepted)
    return _share_of_fields(case, same)


@metric("mean IoU", boxes=True)
def mean_iou(case: Case) -> float:
    """The mean intersection over union (IoU) of matched boxes (``boxes.matching.agreement``)."""
    return case.overlap.mean_iou


@metric("IoU over 0.5", boxes=True)
def iou_over_half(case: Case) -> float:
    """The share of matched boxes with an IoU of at least 0.5."""
    return case.overlap.over_half


@metric("multiple choice")
def multiple_choice(case: Case) -> float:
    """The answer names the letter of the label: "B", "(b)", "B. a cat", "答案：B"; without a letter, the same text."""
    right = {letter(one) or normalize(one) for one in case.accepted}
    return bool(case.text) and (letter(case.text) or normalize(case.text)) in right


@metric("ANLS", package=("rapidfuzz", "rapidfuzz"))
def anls(case: Case) -> float:
    """Average normalized Levenshtein similarity of questions about documents.

    The similarity to the closest accepted answer, without case; 0 below a half. Biten et al., Scene Text Visual
    Question Answering, ICCV 2019; the distance is rapidfuzz's.
    """
    from rapidfuzz.distance import Levenshtein

    if case.answer is None:
        return 0.0
    given = case.text.casefold()
    found = max(Levenshtein.normalized_similarity(given, one.casefold()) for one in case.accepted)
    return found if found > ANLS_THRESHOLD else 0.0


@metric("ROUGE-L", package=("rouge-score", "rouge_score"))
def rouge_l(case: Case) -> float:
    """The F1 of the longest common subsequence of words, of the best accepted text; of Chinese, of characters.

    Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004, as the package rouge-score computes it, with our
    words (``answers.texts.words``): its own know only Latin letters without accents.
    """
    return max(float(_rouge().score(one, case.text)["rougeL"].fmeasure) for one in case.accepted)


@metric("chrF", package=("sacrebleu", "sacrebleu"))
def chrf(case: Case) -> float:
    """The F2 of groups of one to six characters, of the best accepted text: needs no words, so it suits any language.

    Popović, chrF: character n-gram F-score for automatic MT evaluation, 2015, as sacrebleu computes it.
    """
    found: float = _chrf().sentence_score(case.text, case.accepted).score
    return min(found / 100, 1.0)


def chosen(task: Task) -> Sequence[str]:
    """The metrics that a task shows, the main one first."""
    return task.metrics or (OF_BOXES if task.reader == "boxes" else ALWAYS)


def main(task: Task) -> str:
    """The metric that the result of a run, the order of its answers and the worst slices go by."""
    return task.metrics[0] if task.metrics else "mean_iou" if task.reader == "boxes" else "exact_match"


def score(case: Case, names: Iterable[str]) -> Scores:
    """The figures of one answer: those that are always known, and those of these ``names``."""
    return {name: float(METRICS[name].score(case)) for name in dict.fromkeys([*ALWAYS, *names])}


def mean(scores: Sequence[Mapping[str, float]]) -> Scores:
    """The mean of each figure; zero for those that are always known if there are no scores."""
    if not scores:
        return dict.fromkeys(ALWAYS, 0.0)
    return {name: round(sum(one[name] for one in scores) / len(scores), 4) for name in scores[0]}


def title(name: str) -> str:
    """How tables call a metric."""
    return METRICS[name].title if name in METRICS else "preferred by the judge" if name == JUDGED else name


def faults(task: Task) -> Iterator[str]:
    """What is wrong with the metrics that a task chooses, with the remedy."""
    given = f"task={task.name}: task.metrics contains"
    for name in task.metrics or ():
        known = METRICS.get(name)
        if known is None:
            near = difflib.get_close_matches(name, METRICS, n=1)
            meant = f"did you mean {near[0]}?" if near else f"the metrics are {', '.join(METRICS)}."
            yield f"{given} {name}, which is no metric: {meant}"
        elif known.boxes and task.reader != "boxes":
            yield f"{given} {name}, which compares boxes, and its answers are no boxes: remove it."
        elif task.reader == "boxes" and name not in OF_BOXES:
            yield f"{given} {name}, which compares texts, and its answers are boxes: choose from {', '.join(OF_BOXES)}."
        elif known.package and not find_spec(known.package[1]):
            yield f"{given} {name}, which needs a package: pip install {known.package[0]}"


def _share_of_fields(case: Case, agree: Callable[[Any, Any], bool]) -> float:
    valid, parsed = case.parsed
    if not valid:
        return 0.0
    expected, found = fields(case.label), fields(parsed)
    return sum(path in found and agree(found[path], value) for path, value in expected.items()) / len(expected)


class _Words:
    """The tokenizer that rouge-score is given."""

    tokenize = staticmethod(words)


@functools.cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # imports nltk, which takes seconds

    return RougeScorer(["rougeL"], tokenizer=_Words())


@functools.cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF  # slow to import

    return CHRF()
