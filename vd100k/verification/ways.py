"""The ways of verification that a run chooses: what each one asks, and how it scores a row."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from vd100k.config.run import Run, Task
from vd100k.sources.joins import Lookup
from vd100k.verification import asking, judging
from vd100k.verification.asking import Prompt
from vd100k.verification.verdicts import Agreement, Judged, Scorer

# What each way asks; a way that asks nothing has no part of the run.
ASKED: dict[str, Callable[[Run], tuple[Task, Prompt]]] = {"agreement": asking.again, "judge": judging.judging}


def parts(run: Run) -> dict[str, Run]:
    """The runs that ask, by the way of verification."""
    return {name: asking.asking(run, name, ASKED[name](run)[0], samples(run, name)) for name in run.parts}


def prompt(run: Run, name: str) -> Prompt:
    """What a way of verification asks about a row."""
    return ASKED[name](run)[1]


def samples(run: Run, name: str) -> int:
    """How often a way of verification asks about each row."""
    settings = run.verify.agreement if name == "agreement" else run.verify.judge
    assert settings
    return settings.samples


def against(run: Run) -> dict[str, Path]:
    """The rows of other models that answers are compared with, by the name of the model."""
    names = run.verify.agreement.against if run.verify.agreement else []
    return {name: run.paths.data / f"{name}.jsonl" for name in names}


def notes(run: Run) -> list[str]:
    """A line if questions are asked again at another temperature than before, and one if a model judges itself."""
    lines = []
    given = run.task.sampling.get("temperature")
    if "agreement" in run.parts and asking.temperature(run) != given:
        lines.append(
            f"agreement: asked again at temperature {asking.temperature(run):g}, because the task asks at "
            f"{given or 0:g}, where a model repeats itself (verify.agreement.temperature sets another)"
        )
    if "judge" in run.parts and run.parts["judge"].model.name == run.answers:
        lines.append(
            f"{run.answers} judges its own answers, and may not see an error that it always makes: choose another "
            "judge with model@judge.model=OPTION."
        )
    return lines


@contextlib.contextmanager
def scorers(run: Run, replies: dict[str, Path]) -> Iterator[list[Scorer]]:
    """The scorers of all ways that a run chooses; ``replies`` are the files with what was asked."""
    with contextlib.ExitStack() as stack:

        def opened(paths: dict[str, Path]) -> dict[str, Lookup]:
            return {name: stack.enter_context(Lookup(path)) for name, path in paths.items()}

        found: list[Scorer] = []
        read = opened(replies)
        if run.verify.agreement:
            asked = None
            if "agreement" in read:
                model = run.parts["agreement"].model.name
                asked = model, read["agreement"], prompt(run, "agreement"), samples(run, "agreement")
            found.append(Agreement(run, asked, opened(against(run))))
        if run.verify.judge:
            model = run.parts["judge"].model.name
            found.append(Judged(run.verify.judge, model, read["judge"], prompt(run, "judge")))
        yield found
