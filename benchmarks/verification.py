"""Planted errors: does the calibrated gate keep its promise, and what does it keep?

``python -m benchmarks.verification [PICTURES]`` (default 2,000) draws pictures with known content, lets a tiny teacher
answer and answer again three times (vLLM on the CPU, about five minutes), and plants errors in the answers: exchanged
between pictures, one field changed, answers at a high temperature, and one systematic error that the samples share. For
each, 200 simulated people label 200 random rows, and the gate promises 5 %. ``--drawn`` draws the answers instead of
asking a model, with 1 % of the fields wrong (40 % at the high temperature).
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vd100k.io import jsonl
from vd100k.tiny.scenes import COLOURS, COUNTS, SHAPES
from vd100k.verification.agreement import agreement
from vd100k.verification.calibration import calibrate

SIMULATIONS, LABELS, MAX_WRONG = 200, 200, 0.05
SHARES = (0.1, 0.3)
SURE, UNSURE = 0.99, 0.6
NOISE = 1.6  # the temperature of the answers that are wrong by noise
VALUES: dict[str, list[Any]] = {"count": list(COUNTS), "colour": list(COLOURS), "shape": list(SHAPES)}
CONFUSED = {"orange": "red", "yellow": "red"}  # by the systematic error

Answers = dict[str, str]  # by picture
Plant = Callable[[Answers, Answers, set[str], random.Random], Answers]


def exchanged(right: Answers, noisy: Answers, chosen: set[str], rng: random.Random) -> Answers:
    """The chosen pictures get the answers to other ones."""
    return {id: right[rng.choice(list(right))] if id in chosen else answer for id, answer in right.items()}


def one_field(right: Answers, noisy: Answers, chosen: set[str], rng: random.Random) -> Answers:
    """The chosen pictures get another value of one field."""

    def changed(answer: str) -> str:
        content = json.loads(answer)
        field = rng.choice(list(VALUES))
        return json.dumps(content | {field: rng.choice([one for one in VALUES[field] if one != content.get(field)])})

    return {id: changed(answer) if id in chosen else answer for id, answer in right.items()}


def noise(right: Answers, noisy: Answers, chosen: set[str], rng: random.Random) -> Answers:
    """The chosen pictures get the answers that the teacher gave at a high temperature."""
    return {id: noisy.get(id, answer) if id in chosen else answer for id, answer in right.items()}


PLANTS: dict[str, Plant] = {"exchanged between pictures": exchanged, "one field changed": one_field, "noise": noise}


def answered(folder: Path, pictures: int) -> tuple[Answers, Answers, Answers, dict[str, list[str]]]:
    """The truth, the teacher's answers, its answers at a high temperature, and three samples of each, by picture."""

    def run(*overrides: str) -> None:
        command = [sys.executable, str(Path(__file__).parents[1] / "run.py"), *overrides, "tracking=none"]
        subprocess.run([*command, f"output_dir={folder}"], check=True)

    images = folder / "images/scenes-42/train"
    teacher = [f"images={images}", "dataset=scenes", "task=scene", "model=tiny-teacher"]
    run("stage=render", f"stage.train={pictures}", "stage.heldout=1", "model=tiny-teacher")
    run("stage=serve", "stage.detach=true", "model=tiny-teacher")
    try:
        run("stage=generate", *teacher)
        run(
            "stage=generate",
            *teacher,
            "task.name=noise",
            f"task.sampling.temperature={NOISE}",
            "stage.max_failure_rate=1",
        )
        run("stage=verify", *teacher)
    finally:
        run("stage=serve", "stage.action=stop", "stage.server=all", "model=tiny-teacher")
    truth = {row["id"]: json.dumps(row["answer"]) for row in jsonl.read_rows(images.with_suffix(".jsonl"))}
    rows, noisy = (
        {row["id"]: row["answer"] for row in jsonl.read_rows(folder / f"data/scenes/{task}/tiny-teacher.jsonl")}
        for task in ("scene", "noise")
    )
    verdicts = jsonl.read_rows(folder / "data/scenes/scene/tiny-teacher.verdicts.jsonl")
    samples = {row["id"]: [one["answer"] for one in row["samples"]] for row in verdicts}
    return truth, rows, noisy, samples


def drawn(pictures: int) -> tuple[Answers, Answers, Answers, dict[str, list[str]]]:
    """The same without a model: every field of an answer is right with the probability ``SURE``, at a high temperature
    with the probability ``UNSURE``.
    """
    rng = random.Random(0)

    def said(scene: dict[str, Any], share: float) -> str:
        return json.dumps(
            {key: value if rng.random() < share else rng.choice(VALUES[key]) for key, value in scene.items()}
        )

    scenes = {f"{k:05}.png": {key: rng.choice(values) for key, values in VALUES.items()} for k in range(pictures)}
    truth = {id: json.dumps(scene) for id, scene in scenes.items()}
    rows, noisy = ({id: said(scene, share) for id, scene in scenes.items()} for share in (SURE, UNSURE))
    return truth, rows, noisy, {id: [said(scene, SURE) for _ in range(3)] for id, scene in scenes.items()}


def is_right(answer: str, truth: str) -> bool:
    try:
        return bool(json.loads(answer) == json.loads(truth))
    except ValueError:
        return False


def measured(answers: Answers, truth: Answers, samples: dict[str, list[str]]) -> str:
    """The columns of a table: what the gate keeps over all simulations."""
    ids = [id for id in answers if samples.get(id)]
    right = np.array([is_right(answers[id], truth[id]) for id in ids])
    scores = [agreement(answers[id], samples[id], "fields").score for id in ids]
    rng = np.random.default_rng(0)
    kept_right, shares, refused = [], [], 0
    for _ in range(SIMULATIONS):
        drawn = rng.choice(len(ids), LABELS, replace=False)
        found = calibrate(scores, [(scores[k], bool(right[k])) for k in drawn], MAX_WRONG)
        if not found.chosen:
            refused += 1
            continue
        kept = np.array(scores) >= found.chosen.threshold
        shares.append(float((~right[kept]).mean()))
        kept_right.append(float(right[kept].sum() / right.sum()))
    broken = sum(share > MAX_WRONG for share in shares)
    if not shares:
        return f"{100 * (~right).mean():.1f} % | – | – | 0 % | {100 * refused / SIMULATIONS:.0f} %"
    return (
        f"{100 * (~right).mean():.1f} % | {100 * np.mean(shares):.1f} % | {100 * np.mean(kept_right):.1f} % | "
        f"{100 * broken / SIMULATIONS:.1f} % | {100 * refused / SIMULATIONS:.0f} %"
    )


def confused(answer: str) -> str:
    """The answer of a model that takes some colours for another."""
    try:
        content = json.loads(answer)
    except ValueError:
        return answer
    if not isinstance(content, dict):
        return answer
    return json.dumps(content | {"colour": CONFUSED.get(str(content.get("colour")), content.get("colour"))})


def main(pictures: int, asks: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        truth, rows, noisy, samples = answered(Path(folder), pictures) if asks else drawn(pictures)
    print("\n| errors | wrong rows | wrong among kept | right rows kept | promise broken | refused |")
    print("|---|---|---|---|---|---|")
    print(f"| the teacher's own | {measured(rows, truth, samples)} |")
    for share in SHARES:
        for name, plant in PLANTS.items():
            rng = random.Random(1)
            chosen = set(rng.sample(sorted(rows), round(share * len(rows))))
            print(f"| {name}, {100 * share:.0f} % | {measured(plant(rows, noisy, chosen, rng), truth, samples)} |")
    repeated = {id: [confused(one) for one in answers] for id, answers in samples.items()}
    shared = {id: confused(answer) for id, answer in rows.items()}
    print(f"| systematic, repeated by the samples | {measured(shared, truth, repeated)} |")
    print(f"| systematic, samples of another model | {measured(shared, truth, samples)} |")


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdecimal()]
    main(numbers[0] if numbers else 2000, "--drawn" not in sys.argv)
