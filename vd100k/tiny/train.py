"""Train the tiny models from scratch: ``python -m vd100k.tiny.train`` (90 minutes on 2 cores).

The student learns to describe rendered scenes in many notations, but never in JSON. The teacher continues from it
with a frozen vision encoder and also learns JSON. The reader continues from the student, vision encoder included, and
learns to read labels. Training uses only the embedding rows in use and counts the others as zero logits, as they are
in the checkpoint. It is seeded. The accuracy on unseen pictures is printed and saved in ``accuracy.json`` beside the
weights.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessor

from vd100k.tiny import checkpoint, manifests, scenes
from vd100k.tiny.lessons import JSON_QUESTION, Lesson, caption, json_lesson, lesson, reading, transcript

COLUMN = {row: column for column, row in enumerate(checkpoint.ROWS)}
IMAGE_PAD = COLUMN[checkpoint.SPECIAL_IDS["<|image_pad|>"]]
END_OF_TEXT = COLUMN[checkpoint.SPECIAL_IDS["<|endoftext|>"]]
END_OF_TURN = COLUMN[checkpoint.SPECIAL_IDS["<|im_end|>"]]
IMAGE_TOKENS = 16  # 8 x 8 patches, merged 2 x 2
IGNORED = -100
UNSEEN_SEED = 10_000_000  # seeds of pictures for evaluation start here; those for training are lower


@dataclass(frozen=True)
class Course:
    """One phase of training: its pictures and lessons, the number of steps and the learning rate."""

    draw: Callable[[random.Random], tuple[Image.Image, Any]]
    lessons: Callable[[Any, random.Random], list[Lesson]]
    steps: int
    learning_rate: float
    system_share: float  # share of steps with the default system prompt, which is long
    starts_from: str | None = None  # a stored model; otherwise the result of the previous course


def _as_student(scene: Any, rng: random.Random) -> list[Lesson]:
    return [lesson(scene, rng) for _ in range(rng.randint(1, 2))]


def _as_teacher(scene: Any, rng: random.Random) -> list[Lesson]:
    return [json_lesson(scene) if rng.random() < 0.7 else lesson(scene, rng)]


def _as_reader(label: Any, rng: random.Random) -> list[Lesson]:
    return [reading(label, rng) for _ in range(rng.randint(1, 2))]


COURSES = {
    "eyes": Course(scenes.draw, lambda scene, rng: [caption(scene)], 2_500, 1.5e-3, 0.2),
    "student": Course(scenes.draw, _as_student, 1_800, 1e-3, 0.4),
    "teacher": Course(scenes.draw, _as_teacher, 600, 7e-4, 0.7),
    "letters": Course(manifests.draw, lambda label, rng: [transcript(label)], 2_000, 1.5e-3, 0.2, "student"),
    "reader": Course(manifests.draw, _as_reader, 1_800, 1e-3, 0.4),
}
KEPT = ("student", "teacher", "reader")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output", type=Path, default=checkpoint.HERE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=30_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps-share", type=float, default=1.0, help="the share of the steps to run in every course")
    parser.add_argument("--courses", nargs="+", choices=COURSES, default=list(COURSES))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    record = args.output / "accuracy.json"
    accuracy = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    model, processor = build()
    pictures, subjects, drawer = np.empty(0), [], None
    made: dict[str, dict[str, np.ndarray]] = {}
    for name in args.courses:
        course = replace(COURSES[name], steps=round(COURSES[name].steps * args.steps_share))
        if course.draw is not drawer:
            pictures, subjects, drawer = *draw_all(course.draw, args.images, args.seed), course.draw
        if course.starts_from:
            model, processor = build(made.get(course.starts_from) or checkpoint.tensors(course.starts_from))
        if name == "teacher":
            model.model.visual.requires_grad_(False)
        fit(model, processor, pictures, subjects, course, args.batch, rng)
        accuracy[name] = measure(model, processor, course.draw)
        print(name, json.dumps(accuracy[name]), flush=True)
        if name in KEPT:
            made[name] = state(model)
            # The teacher has the student's vision encoder, which is stored only once.
            base = made.get("student") if name == "teacher" else None
            checkpoint.pack(made[name], args.output / f"{name}.safetensors", base)
    record.write_text(json.dumps(accuracy, indent=2) + "\n", encoding="utf-8")


def draw_all(draw: Callable[[random.Random], tuple[Image.Image, Any]], count: int, seed: int) -> tuple[Any, list[Any]]:
    """``count`` pictures (count, 112, 112, 3; uint8) and the content of each."""
    drawn = [draw(random.Random(seed + k)) for k in range(count)]
    return np.stack([np.asarray(image) for image, _ in drawn]), [subject for _, subject in drawn]


def state(model: Any) -> dict[str, np.ndarray]:
    """The weights under their published names. ``save_pretrained`` is the only way to get these."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")


def build(weights: dict[str, np.ndarray] | None = None) -> tuple[Any, Any]:
    """A model with only the embedding rows in use, untrained or with ``weights``, and Qwen2-VL's image processor."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save_tokenizer(Path(folder))
        content = checkpoint.config()
        for key in (
            "image_token_id",
            "video_token_id",
            "vision_start_token_id",
            "vision_end_token_id",
            "bos_token_id",
            "eos_token_id",
        ):
            content[key] = COLUMN[content[key]]
        content["vocab_size"] = len(COLUMN)
        (Path(folder) / "config.json").write_text(json.dumps(content), encoding="utf-8")
        config = AutoConfig.from_pretrained(folder)
        processor = Qwen2VLImageProcessor.from_pretrained(folder)
        if weights is None:
            return Qwen2VLForConditionalGeneration(config), processor
        save_file(weights, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        return Qwen2VLForConditionalGeneration.from_pretrained(folder), processor


def encode(lessons: list[Lesson], system: bool = True, answer_last: bool = True) -> tuple[list[int], list[int]]:
    """One conversation as columns and targets; without ``answer_last`` it ends before the last answer."""
    tokens: list[int] = []
    targets: list[int] = []

    def say(text: str, taught: bool = False) -> None:
        # Special tokens are written literally in the text; all other text becomes bytes.
        ids: list[int] = []
        while text:
            special = next((s for s in checkpoint.SPECIALS if text.startswith(s)), None)
            if special:
                count = IMAGE_TOKENS if special == "<|image_pad|>" else 1
                ids += [COLUMN[checkpoint.SPECIAL_IDS[special]]] * count
                text = text[len(special) :]
            else:
                cut = text.find("<|", 1)
                piece, text = (text, "") if cut < 0 else (text[:cut], text[cut:])
                ids += piece.encode()
        tokens.extend(ids)
        targets.extend(ids if taught else [IGNORED] * len(ids))

    if system:
        say("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")
    for turn, (question, answer) in enumerate(lessons):
        image = "<|vision_start|><|image_pad|><|vision_end|>" if turn == 0 else ""
        say(f"<|im_start|>user\n{image}{question}<|im_end|>\n<|im_start|>assistant\n")
        if answer_last or turn + 1 < len(lessons):
            say(f"{answer}<|im_end|>", taught=True)
            say("\n")
    return tokens, targets


def batch(processor: Any, pictures: np.ndarray, conversations: list[tuple[list[int], list[int]]]) -> dict[str, Any]:
    """Model inputs for n pictures (n, 112, 112, 3; uint8) and n conversations, padded on the right."""
    pixels = processor(images=list(torch.from_numpy(pictures).permute(0, 3, 1, 2)), return_tensors="pt")
    length = max(len(tokens) for tokens, _ in conversations)
    ids = torch.full((len(conversations), length), END_OF_TEXT)
    targets = torch.full((len(conversations), length), IGNORED)
    mask = torch.zeros((len(conversations), length), dtype=torch.long)
    for row, (tokens, wanted) in enumerate(conversations):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        targets[row, : len(tokens)] = torch.tensor(wanted)
        mask[row, : len(tokens)] = 1
    return {
        "targets": targets,
        "input_ids": ids,
        "attention_mask": mask,
        "mm_token_type_ids": (ids == IMAGE_PAD).int(),
        "pixel_values": pixels["pixel_values"],
        "image_grid_thw": pixels["image_grid_thw"],
    }


def loss_of(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Mean cross-entropy over the answer tokens, with zero logits for the unused vocabulary."""
    targets = inputs.pop("targets")[:, 1:]
    hidden = model.model(**inputs).last_hidden_state[:, :-1]
    taught = targets != IGNORED
    logits = model.lm_head(hidden[taught])
    unused = logits.new_full((len(logits), 1), math.log(checkpoint.VOCAB_SIZE - len(COLUMN)))
    return torch.nn.functional.cross_entropy(torch.cat([logits, unused], 1), targets[taught])


def fit(
    model: Any,
    processor: Any,
    pictures: np.ndarray,
    subjects: list[Any],
    course: Course,
    batch_size: int,
    rng: random.Random,
) -> None:
    """Train for one course, using AdamW with warm-up and cosine decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=course.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda k: min(1.0, (k + 1) / 100) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * k / course.steps))),
    )
    model.train()
    began, running = time.monotonic(), 0.0
    for step in range(1, course.steps + 1):
        chosen = rng.sample(range(len(subjects)), batch_size)
        system = rng.random() < course.system_share
        conversations = [encode(course.lessons(subjects[k], rng), system) for k in chosen]
        loss = loss_of(model, batch(processor, pictures[chosen], conversations))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        running += loss.item()
        if step % 100 == 0:
            elapsed = time.monotonic() - began
            print(f"step {step}/{course.steps} loss {running / 100:.4f} {elapsed:.0f} s", flush=True)
            running = 0.0


QUESTIONS: dict[Any, dict[str, tuple[str, Callable[[Any], tuple[str, ...]]]]] = {
    scenes.draw: {
        "caption": ("What is in the picture?", lambda s: (caption(s)[1],)),
        "colour": ("What colour is it?", lambda s: (s.colour, f"It is {s.colour}.")),
        "shape": ("What shape is it?", lambda s: (s.shape, f"It is a {s.shape}.")),
        "count": ("How many are there?", lambda s: (str(s.count),)),
        "list": ("Answer as a list.", lambda s: (f'["{s.colour}", "{s.shape}", {s.count}]',)),
        "json": (JSON_QUESTION, lambda s: (json_lesson(s)[1],)),
    },
    manifests.draw: {
        "transcript": ("What is printed here?", lambda m: (transcript(m)[1],)),
        "dock": ("Which dock?", lambda m: (m.dock,)),
        "pallet": ("Which pallet?", lambda m: (m.pallet_number,)),
    },
}


@torch.inference_mode()
def measure(model: Any, processor: Any, draw: Any, count: int = 500) -> dict[str, float]:
    """The share of unseen pictures with an exact answer, by question; ``json`` is the target format."""
    pictures, subjects = draw_all(draw, count, UNSEEN_SEED)
    model.eval()
    result = {}
    for name, (question, right) in QUESTIONS[draw].items():
        asked = [encode([(question, "")], answer_last=False)] * count
        inputs = batch(processor, pictures, asked)
        del inputs["targets"]
        output = model.generate(
            **inputs, max_new_tokens=60, do_sample=False, eos_token_id=END_OF_TURN, pad_token_id=END_OF_TEXT
        )
        answers = [text_of(row[inputs["input_ids"].shape[1] :].tolist()) for row in output]
        result[name] = sum(a in right(s) for a, s in zip(answers, subjects, strict=True)) / count
    model.train()
    return result


def text_of(columns: list[int]) -> str:
    """The generated text up to the end of the turn."""
    said = columns[: columns.index(END_OF_TURN)] if END_OF_TURN in columns else columns
    return bytes(c for c in said if c < 256).decode(errors="replace")


if __name__ == "__main__":
    main()
