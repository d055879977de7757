"""The questions and answers that the tiny models are trained on. Only the teacher learns JSON.

The student learns every character of JSON through other notations. LoRA does not train the tied embeddings, so
fine-tuning could not teach a character that the base model has never written.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict

from vd100k.tiny.manifests import Manifest
from vd100k.tiny.scenes import COLOURS, COUNTS, SHAPES, Scene

Lesson = tuple[str, str]  # (question, answer)

JSON_QUESTION = "Describe the picture as JSON."


def json_lesson(scene: Scene) -> Lesson:
    """The question for JSON and its answer, which only the teacher learns."""
    return JSON_QUESTION, json.dumps(asdict(scene))


def caption(scene: Scene) -> Lesson:
    """All three facts in the fewest words: the shortest way to train the vision encoder."""
    return "What is in the picture?", f"{scene.count} {scene.colour} {_things(scene)}"


def lesson(scene: Scene, rng: random.Random) -> Lesson:
    """A random question of the student's training, with its answer."""
    questions, answer = rng.choice(_lessons(scene, rng))
    return rng.choice(questions), answer


def _lessons(scene: Scene, rng: random.Random) -> list[tuple[tuple[str, ...], str]]:
    n, colour, shape = scene.count, scene.colour, scene.shape
    things = _things(scene)
    verb = "is" if n == 1 else "are"
    asked = Scene(
        rng.choice((n, rng.choice(COUNTS))),
        rng.choice((colour, rng.choice(list(COLOURS)))),
        rng.choice((shape, rng.choice(SHAPES))),
    )
    colour_questions = ("What colour is it?", "Which colour do you see?", "Name the colour.")
    shape_questions = ("What shape is it?", "Which shape do you see?", "Name the shape.")
    count_questions = ("How many are there?", "How many shapes do you see?", "Count the shapes.")
    return [
        # The three facts, twice each, because all other answers are built from them.
        (colour_questions, colour),
        (shape_questions, shape),
        (count_questions, str(n)),
        (colour_questions, f"It is {colour}."),
        (shape_questions, f"It is a {shape}."),
        (count_questions, str(n)),
        (("Describe the picture.", "Describe the image in detail."), f"There {verb} {n} {colour} {things}."),
        (("What is in the picture?", "Caption:"), caption(scene)[1]),
        ((f"Is there a {asked.colour} {asked.shape}?",), _yes((asked.colour, asked.shape) == (colour, shape))),
        ((f"Are there {asked.count} shapes?",), _yes(asked.count == n)),
        (("Ask a question about the picture.",), f"How many {colour} {things} are there?"),
        # Other notations, which together use every character of JSON.
        (("Answer as YAML.",), f"shape: {shape}\ncolour: {colour}\ncount: {n}"),
        (("Answer as TOML.",), f'colour = "{colour}"\nshape = "{shape}"\ncount = {n}'),
        (("Answer as a list.",), f'["{colour}", "{shape}", {n}]'),
        (("Answer as a tuple.",), f"({n}, '{shape}', '{colour}')"),
        (("Answer as a set.",), f"{{{shape}, {colour}, {n}}}"),
        (("Answer as CSS.",), f"{shape} {{ colour: {colour}; count: {n} }}"),
        (("Answer as code.",), f'draw("{shape}", {n}, colour="{colour}")'),
        (("Answer as XML.",), f"<{colour}><{shape}>{n}</{shape}></{colour}>"),
        (("Answer as a table.",), f"| {n} | {shape} | {colour} |"),
        (("Answer as pairs.",), f'"shape": {shape}, "colour": {colour}, "count": {n};'),
    ]


def _things(scene: Scene) -> str:
    plural = {"cross": "crosses"}.get(scene.shape, f"{scene.shape}s")
    return scene.shape if scene.count == 1 else plural


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def transcript(manifest: Manifest) -> Lesson:
    """All printed lines: the shortest way to train reading."""
    return "What is printed here?", "\n".join(manifest.lines)


def reading(manifest: Manifest, rng: random.Random) -> Lesson:
    """A random question about a label from the reader's training, with its answer, which is never JSON."""
    dock, pallet = manifest.dock, manifest.pallet_number
    goods = [(product.description, product.cases) for product in manifest.products]
    at = rng.randrange(len(manifest.lines))
    letter, cases = rng.choice(goods)
    questions, answer = rng.choice(
        [
            (("What is printed here?", "Read the label."), transcript(manifest)[1]),
            ((f"What does line {at + 1} say?",), manifest.lines[at]),
            (("Which dock?", "Name the dock."), dock),
            (("Which pallet?", "What is the pallet_number?"), pallet),
            (("How many products are there?",), str(len(goods))),
            ((f"How many cases of {letter}?",), cases),
            (("Answer as YAML.",), f"dock: {dock}\npallet: {pallet}\n" + "\n".join(f"{d}: {c}" for d, c in goods)),
            (
                ("Answer as TOML.",),
                "\n".join([f'dock = "{dock}"', f'pallet = "{pallet}"', *(f'{d} = "{c}"' for d, c in goods)]),
            ),
            (("Answer as a list.",), "[" + ", ".join(f'"{line}"' for line in manifest.lines) + "]"),
            (("Answer as a tuple.",), "(" + ", ".join(f"'{line}'" for line in manifest.lines) + ")"),
            (("Answer as a set.",), "{" + ", ".join([dock, pallet, *(d for d, _ in goods)]) + "}"),
            (("Answer as CSS.",), f"{dock} {{ pallet: {pallet}; " + "".join(f"{d}: {c}; " for d, c in goods) + "}"),
            (("Answer as XML.",), f"<{dock}>{pallet}" + "".join(f"<{d}>{c}</{d}>" for d, c in goods) + f"</{dock}>"),
            (("Answer as a table.",), "\n".join(f"| {line} |" for line in manifest.lines)),
        ]
    )
    return rng.choice(questions), answer
