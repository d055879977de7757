"""What a judge is asked about an answer, and what its verdict says."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from vd100k.config.run import Judge, Run, Task
from vd100k.conversion.formats import OPTIONS
from vd100k.errors import DataError
from vd100k.io.jsonl import Row
from vd100k.verification.asking import Prompt

if TYPE_CHECKING:
    from jinja2 import Template

LOGPROBS = {"logprobs": True, "top_logprobs": 5}
# What stands before the verdict in a reply.
IN_JSON, IN_TEXT = re.compile(r'"verdict"\s*:\s*"'), re.compile(r"^\W*")
VARIABLES = "question, answer, fields and rubric"


class Verdict(NamedTuple):
    """The probability that an answer is right, and the judge's reason (empty without one)."""

    score: float
    reason: str
    right: bool


def judging(run: Run) -> tuple[Task, Prompt]:
    """The task that asks a judge about a row, and its prompt."""
    judge = run.verify.judge
    assert judge is not None
    schema = {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "verdict": {"enum": [judge.right, judge.wrong]}},
        "required": ["reason", "verdict"],
        "additionalProperties": False,
    }
    changed: dict[str, Any] = {
        "system_prompt": judge.system_prompt,
        "reader": "json" if judge.json_reply else "text",
        "json_schema": schema if judge.json_reply else None,
        "sampling": judge.sampling | (LOGPROBS if judge.logprobs else {}),
    }
    return run.task.model_copy(update=changed), functools.partial(_prompt, judge.prompt, run.task.rubric)


def _prompt(source: str, rubric: str | None, row: Row) -> str:
    """What the judge is asked about a row.

    Raises:
        DataError: Jinja cannot parse the template, or it uses another variable.
    """
    from jinja2 import TemplateError

    question, answer = row["asked"], row["answer"]
    if all(isinstance(row.get(option), str) for option in OPTIONS):
        question = "\n".join([question, *(f"{option[-1]}. {row[option]}" for option in OPTIONS)])
    try:
        known = {"question": question, "answer": answer, "fields": _fields(answer), "rubric": rubric}
        return _template(source).render(known)
    except TemplateError as error:
        raise DataError(f"verify.judge.prompt cannot be rendered: {error}. Its variables are {VARIABLES}.") from error


@functools.cache
def _template(source: str) -> Template:
    from jinja2 import ChainableUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)


def _fields(answer: str) -> dict[str, Any]:
    """The fields of an answer that is a JSON object; none of any other."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(answer)
        return found if isinstance(found, dict) else {}
    return {}


def read(reply: Row, judge: Judge) -> Verdict | None:
    """The verdict in a judge's reply; None if there is none, as in a plain text that answers something else."""
    text = str(reply.get("answer", ""))
    found = _fields(text) if judge.json_reply else {}
    word = str(found.get("verdict", "")) if judge.json_reply else text
    said = word.strip(" \t\r\n.,!:;\"'。，！：；“”*").casefold()
    matched = {name for name in (judge.right, judge.wrong) if said.startswith(name.casefold())}
    if not matched:
        return None
    right = max(matched, key=len) == judge.right
    share = _probability(reply.get("logprobs"), text, judge)
    return Verdict(float(right) if share is None else share, str(found.get("reason", "")), right)


def _probability(logprobs: Any, text: str, judge: Judge) -> float | None:
    """The probability of "right" at the token that begins the verdict, compared with that of "wrong" alone.

    None if the token is not among the last ones of the reply, or no probability was sent.
    """
    if not isinstance(logprobs, list) or not all(isinstance(one, dict) and one for one in logprobs):
        return None
    joined = "".join(next(iter(alternatives)) for alternatives in logprobs)
    # A token that ends the reply may follow. A longer reply does not begin with its last tokens.
    if not judge.json_reply and not joined.strip().startswith(text.strip()):
        return None
    begin = (IN_JSON if judge.json_reply else IN_TEXT).search(joined)
    end = 0
    for alternatives in logprobs if begin else ():
        end += len(next(iter(alternatives)))
        if begin and end > begin.end():
            right, wrong = (_share(alternatives, word) for word in (judge.right, judge.wrong))
            return right / (right + wrong) if right + wrong else None
    return None


def _share(alternatives: dict[str, float], word: str) -> float:
    """The probability of all tokens that begin a word, whatever stands before it."""
    begins = (token.lstrip(" \t\r\n\"'：:{*").rstrip(" \t\r\n\"'}.,*。").casefold() for token in alternatives)
    shares = zip(begins, alternatives.values(), strict=True)
    return sum(math.exp(logprob) for begin, logprob in shares if begin and word.casefold().startswith(begin))
