"""Planted errors: does the calibrated gate keep its promise, and what does it keep?

``python -m benchmarks.verification [--folder FOLDER]`` draws 2,000 pictures with known content, lets a tiny teacher
answer and answer again three times (vLLM on the CPU, about five minutes), and plants errors in the answers: exchanged
between pictures, one field changed, answers at a high temperature, and one systematic error that the samples share. For
each, 200 simulated people label 200 random rows, and the gate promises 5 %. ``--drawn`` draws the answers instead of
asking a model, with 1 % of the fields wrong (40 % at the high temperature), and ``--batched`` asks the teacher with
transformers, 100 pictures at once, which is faster on a busy machine. What vLLM has answered in FOLDER already is not
asked again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vd100k.io import jsonl
from vd100k.tiny.scenes import COLOURS, COUNTS, SHAPES
from vd100k.verification.agreement import agreement
from vd100k.verification.asking import REPEATED_AT
from vd100k.verification.calibration import calibrate

SIMULATIONS, LABELS, MAX_WRONG = 200, 200, 0.05
SHARES = (0.1, 0.3)
SURE, UNSURE = 0.99, 0.6
NOISE, ATTEMPTS = 2.6, 6  # the temperature of the answers that are wrong by noise; most of its replies are no JSON
VALUES: dict[str, list[Any]] = {"count": list(COUNTS), "colour": list(COLOURS), "shape": list(SHAPES)}
QUESTION, TOKENS, BATCH = "Describe the picture as JSON.", 80, 100
END = 256  # the tokens below are bytes
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
    """As many pictures as were chosen get the wrong answers that the teacher gave at a high temperature."""
    wrong = set(rng.sample(sorted(noisy), min(len(chosen), len(noisy))))
    return {id: noisy[id] if id in wrong else answer for id, answer in right.items()}


PLANTS: dict[str, Plant] = {"exchanged between pictures": exchanged, "one field changed": one_field, "noise": noise}


def answered(folder: Path, pictures: int, batched: bool) -> tuple[Answers, Answers, Answers, dict[str, list[str]]]:
    """The truth, the teacher's answers, its answers at a high temperature, and three samples of each, by picture."""
    images = folder / "images/scenes-42/train"
    _run(folder, "stage=render", f"stage.train={pictures}", "stage.heldout=1", "model=tiny-teacher")
    truth = {row["id"]: json.dumps(row["answer"]) for row in jsonl.read_rows(images.with_suffix(".jsonl"))}
    rows, noisy, samples = in_batches(folder, images) if batched else served(folder, images)
    return truth, rows, noisy, samples


def _run(folder: Path, *overrides: str) -> None:
    command = [sys.executable, str(Path(__file__).parents[1] / "run.py"), *overrides, "tracking=none"]
    subprocess.run([*command, f"output_dir={folder}"], check=True)


def served(folder: Path, images: Path) -> tuple[Answers, Answers, dict[str, list[str]]]:
    """What the teacher says when vLLM serves it."""
    run = partial(_run, folder)
    teacher = [f"images={images}", "dataset=scenes", "task=scene", "model=tiny-teacher"]
    run("stage=serve", "stage.detach=true", "model=tiny-teacher")
    try:
        run("stage=generate", *teacher)
        run(
            "stage=generate",
            *teacher,
            "task.name=noise",
            # The highest temperature that vLLM takes; among all tokens, hardly any reply would be JSON.
            "task.sampling.temperature=2.0",
            "+task.sampling.top_k=8",
            "stage.max_failure_rate=1",
        )
        run("stage=verify", *teacher)
    finally:
        run("stage=serve", "stage.action=stop", "stage.server=all", "model=tiny-teacher")
    rows, noisy = (
        {row["id"]: row["answer"] for row in jsonl.read_rows(folder / f"data/scenes/{task}/tiny-teacher.jsonl")}
        for task in ("scene", "noise")
    )
    verdicts = jsonl.read_rows(folder / "data/scenes/scene/tiny-teacher.verdicts.jsonl")
    samples = {row["id"]: [one["answer"] for one in row["samples"]] for row in verdicts}
    return rows, noisy, samples


def in_batches(folder: Path, images: Path) -> tuple[Answers, Answers, dict[str, list[str]]]:
    """What the teacher says when transformers asks it about many pictures at once; a reply that is no JSON is none."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    place = folder / "models/tiny-teacher"
    if not place.exists():
        subprocess.run([sys.executable, "-m", "vd100k.tiny", "teacher", str(place)], check=True)
    model, processor = AutoModelForImageTextToText.from_pretrained(place), AutoProcessor.from_pretrained(place)
    # Only bytes and the end of the answer are ever chosen, out of 151,936 tokens: the head computes no others.
    ids = torch.tensor([*range(END), processor.tokenizer.convert_tokens_to_ids("<|im_end|>")])
    weight = model.get_output_embeddings().weight[ids]
    model.set_output_embeddings(torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False))
    model.get_output_embeddings().weight = torch.nn.Parameter(weight)
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    torch.manual_seed(0)

    def ask(everything: list[Path], temperature: float) -> Answers:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        found = {}
        for paths in (everything[start : start + BATCH] for start in range(0, len(everything), BATCH)):
            pictures = [Image.open(path) for path in paths]
            inputs = processor(text=[text] * len(paths), images=pictures, return_tensors="pt")
            output = model.generate(**inputs, max_new_tokens=TOKENS, eos_token_id=END, pad_token_id=END, **sampling)[
                :, inputs["input_ids"].shape[1] :
            ].tolist()
            replies = [bytes(one for one in tokens if one < END).decode(errors="replace") for tokens in output]
            found |= {path.name: reply for path, reply in zip(paths, replies, strict=True) if _is_json(reply)}
        return found

    everything, noisy = sorted(images.iterdir()), Answers()
    rows, *again = (ask(everything, temperature) for temperature in (0, REPEATED_AT, REPEATED_AT, REPEATED_AT))
    for _ in range(ATTEMPTS):
        noisy |= ask([path for path in everything if path.name not in noisy], NOISE)
    return rows, noisy, {id: [one[id] for one in again if id in one] for id in rows}


def _is_json(reply: str) -> bool:
    with contextlib.suppress(ValueError):
        return isinstance(json.loads(reply), dict)
    return False


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


def main(pictures: int, folder: Path | None, batched: bool) -> None:
    """Print the table; without a ``folder``, the answers are drawn."""
    truth, rows, noisy, samples = answered(folder, pictures, batched) if folder else drawn(pictures)
    noisy = {id: answer for id, answer in noisy.items() if not is_right(answer, truth[id])}
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
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--batched", action="store_true")
    parser.add_argument("--drawn", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        main(given.pictures, None if given.drawn else given.folder or Path(temporary), given.batched)
