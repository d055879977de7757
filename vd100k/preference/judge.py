"""A judge compares the answers before and after: each pair is shown in both orders, so that a favoured place cancels.

Judges favour the first or the second place (Zheng et al., Judging LLM-as-a-Judge, 2023), so an answer wins only if both
orders together speak for it; a judge that prefers the same place twice has said nothing. The questions are asked in the
way of ``stage=generate`` with a file of questions: each exactly once, and an interrupted run resumes.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from vd100k.config.run import Run
from vd100k.config.stages import Evaluate
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.evaluation.comparison import Comparison
from vd100k.evaluation.metrics import JUDGED
from vd100k.generation.progress import Progress
from vd100k.generation.run import ask_all
from vd100k.io import jsonl
from vd100k.verification.asking import WITHOUT_NUMBER, numbered

PART = "judge"  # the part of a run that asks the judge
VERDICTS = ("first", "second", "tie")
ORDERS = (("before", "after"), ("after", "before"))
WIN, TIE, LOSS = 1.0, 0.5, 0.0  # of the answer after
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "verdict": {"enum": list(VERDICTS)}},
    "required": ["reason", "verdict"],
    "additionalProperties": False,
}
Pair = tuple[str, str]  # the answers before and after


class Preference(NamedTuple):
    """What the answer after is worth, and whether the verdict came from both orders, which contradict each other."""

    value: float
    known: bool
    contradicts: bool


def asking(run: Run, stage: Evaluate) -> Run | None:
    """The run that asks the judge of an evaluation; None if there is none."""
    if PART not in run.parts or run.verify.judge is None:
        return None
    part, judge = run.parts[PART], run.verify.judge
    base = stage.folder / f"{run.full_name}.judge-{part.model.name}"
    asked: dict[str, Any] = {
        **{"prompt": WITHOUT_NUMBER, "question": None, "questions": base.with_name(f"{base.name}.questions.jsonl")},
        **{"system_prompt": None, "turns": [], "reader": "json", "json_schema": SCHEMA, "sampling": judge.sampling},
    }
    paths = part.paths.model_copy(update={"rows": base.with_name(f"{base.name}.jsonl")})
    task = part.task.model_copy(update=asked)
    return part.model_copy(update={"images": stage.images, "task": task, "paths": paths, "limit": None, "sample": None})


def judged(run: Run, stage: Evaluate, compared: Comparison, logs: Path, counts: dict[str, Any]) -> Comparison:
    """The comparison with the judge's preference as one more figure: of 1 for each image, the share of each side.

    ``counts`` of requests are added to.

    Raises:
        DataError: the judge's template cannot be rendered, or there is no verdict on any image.
    """
    part = asking(run, stage)
    if part is None:
        return compared
    pairs = {
        id: (compared.answers["before"].get(id, ""), compared.answers["after"].get(id, "")) for id in compared.labels
    }
    open_pairs = {id: pair for id, pair in pairs.items() if pair[0].strip() != pair[1].strip()}
    prompts = {id: _prompts(run, pair) for id, pair in open_pairs.items()}
    if prompts:
        _ask(part, stage, prompts, logs, counts)
    replies = {(row["id"], row["question"]): row["answer"] for row in _rows(part)}
    found = {id: preference([replies.get((id, text)) for text in texts]) for id, texts in prompts.items()}
    if found and not any(one.known for one in found.values()):
        raise DataError(
            f"The judge {part.model.name} gave no verdict on any of {len(found):,} pairs of answers. Its replies, and "
            f"the failures with their reasons, are beside {part.paths.rows}: remove the cause, or choose another judge."
        )
    say(told(part.model.name, found, len(pairs) - len(found)))
    values = {id: found[id].value if id in found else TIE for id in pairs}
    scores = {
        side: {id: one | {JUDGED: values[id] if side == "after" else 1 - values[id]} for id, one in by_id.items()}
        for side, by_id in compared.scores.items()
    }
    return replace(compared, scores=scores)


def preference(replies: list[str | None]) -> Preference:
    """What the replies about a pair say, one for each of ``ORDERS``; without both of them, it is a tie."""
    preferred = [_preferred(reply, order) for reply, order in zip(replies, ORDERS, strict=True)]
    if None in preferred:
        return Preference(TIE, False, False)
    points = sum({"after": WIN, "before": LOSS}.get(str(side), TIE) for side in preferred) / len(preferred)
    value = WIN if points > TIE else LOSS if points < TIE else TIE
    return Preference(value, True, set(preferred) == {"before", "after"})


def told(name: str, found: Mapping[str, Preference], same: int) -> str:
    """A sentence about the verdicts on all pairs; ``same`` pairs are equal and were not asked about."""
    wins, losses = (sum(one.known and one.value == value for one in found.values()) for value in (WIN, LOSS))
    known, turned = (sum(getattr(one, key) for one in found.values()) for key in ("known", "contradicts"))
    parts = [f"{wins:,} answers better after, {losses:,} worse, {known - wins - losses:,} tied"]
    if turned:
        parts.append(f"{turned:,} of the ties are pairs on which it preferred the same place in both orders")
    if known < len(found):
        parts.append(f"{len(found) - known:,} without a verdict, which count as ties")
    if same:
        parts.append(f"{same:,} pairs of equal answers were not asked about")
    return f"judge {name}: {'; '.join(parts)}"


def _preferred(reply: str | None, order: Pair) -> str | None:
    """The side that a reply prefers, or "tie"; None if it says neither."""
    try:
        content = json.loads(reply or "")
    except (ValueError, RecursionError):
        return None
    said = content.get("verdict") if isinstance(content, dict) else None
    return {"first": order[0], "second": order[1], "tie": "tie"}.get(said) if isinstance(said, str) else None


def _prompts(run: Run, pair: Pair) -> list[str]:
    """What the judge is asked about a pair, once in each order."""
    from jinja2 import TemplateError

    assert run.verify.judge
    by_side = dict(zip(ORDERS[0], pair, strict=True))
    question = run.task.question or run.task.prompt
    try:
        template = _template(run.verify.judge.comparison)
        return [
            numbered(
                template.render(question=question, first=by_side[one], second=by_side[two], rubric=run.task.rubric), k
            )
            for k, (one, two) in enumerate(ORDERS)
        ]
    except TemplateError as error:
        raise DataError(
            f"verify.judge.comparison cannot be rendered: {error}. Its variables are question, first, second, "
            "and rubric."
        ) from error


@functools.cache
def _template(source: str) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)


def _ask(part: Run, stage: Evaluate, prompts: Mapping[str, list[str]], logs: Path, counts: dict[str, Any]) -> None:
    path = part.task.questions
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    jsonl.write(path, ({"id": id, "question": text} for id, texts in prompts.items() for text in texts))
    progress = Progress("questions", part.model.price)
    say(f"judge: {sum(map(len, prompts.values())):,} questions to {part.served_name}")
    try:
        ask_all(part, stage.ask, logs, progress)
    finally:
        progress.add_to(counts)


def _rows(part: Run) -> Iterator[jsonl.Row]:
    return jsonl.read_rows(part.paths.rows) if part.paths.rows.exists() else iter(())
