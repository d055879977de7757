"""Rows are compared as ms-swift trains on them and as a server gets them, and every planted fault is named."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from PIL import Image, ImageDraw

from vd100k.config.run import Run
from vd100k.config.stages import Parity
from vd100k.io.jsonl import Row
from vd100k.parity import certificate, renderer
from vd100k.parity.certificate import Certificate
from vd100k.parity.renderer import Renderer
from vd100k.parity.sample import Chosen
from vd100k.tiny import random_checkpoint

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

SERVED = [("qwen2_vl", "vllm-cpu"), ("qwen2_5_vl", "vllm-cpu"), ("qwen3_vl", "vllm-cpu"), ("qwen2_5_vl", "swift")]
CAP = 200_704  # a whole number of visual tokens of every family
SYSTEM = "You describe pictures in a few words."
OTHER_SYSTEM = "You distort pictures in a few words.."
CLEAN = 40
START_S = 300
ORIENTATION = 0x0112
TURNED = 6  # EXIF: turn by 90° to see the picture upright

# Encodes the rows of several jobs in one process, because importing ms-swift takes longer than encoding them. It reads
# the bounds of image sizes once in a process, and keeps them in these variables and in this module.
JOBS = """
import importlib, json, os, sys
from pathlib import Path
from qwen_vl_utils import vision_process
from vd100k.parity import trainer
for path, env in json.loads(sys.argv[1]):
    for name in ("MAX_PIXELS", "MIN_PIXELS", "IMAGE_MAX_TOKEN_NUM", "IMAGE_MIN_TOKEN_NUM"):
        os.environ.pop(name, None)
    vars(importlib.reload(vision_process)).pop("_patch", None)
    os.environ.update(env)
    trainer.main(Path(path))
"""


@dataclass(frozen=True)
class Fault:
    """A fault in training: the cause that must be found, what is changed, and the rows that show it.

    ``args`` and ``env`` change the training, ``row`` the rows that only the trainer gets, ``serves`` the served folder.
    ``method`` is that of the training.
    """

    cause: str
    rows: Callable[[Path], list[Row]]
    args: dict[str, Any]
    env: dict[str, str]
    row: Callable[[Row], Row] = lambda row: row
    serves: Callable[[Path], None] | None = None
    method: Literal["sft", "dpo"] = "sft"


def picture(path: Path, width: int, height: int, seed: int = 0, orientation: int = 1, grey: bool = False) -> str:
    """A picture that shows where its top left is; photos of noise are the hardest to compress."""
    rng = random.Random(seed)
    image = (
        Image.effect_noise((width, height), 60).convert("RGB") if seed % 4 == 0 else Image.new("RGB", (width, height))
    )
    draw = ImageDraw.Draw(image)
    for k in range(12):
        x, y = rng.randrange(width), rng.randrange(height)
        colour = tuple(rng.randrange(256) for _ in range(3))
        draw.ellipse((x, y, x + width // (2 + k), y + height // (2 + k)), fill=colour)
    draw.rectangle((0, 0, width // 2, height // 4), fill=(250, 20, 20))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    (image.convert("L") if grey else image).save(path, exif=exif)
    return str(path)


def row(*images: str, turns: int = 1, system: str = SYSTEM) -> Row:
    messages = [{"role": "system", "content": system}]
    for turn in range(turns):
        tags = "" if turn else "<image>" * len(images)
        messages += [
            {"role": "user", "content": f"{tags}What does it show, {turn}? 这是什么? <b>"},
            {"role": "assistant", "content": f"Circles.\nNumber {turn}: 圆。"},
        ]
    return {"messages": messages, "images": list(images)}


def clean(folder: Path) -> list[Row]:
    """Rows of mixed sizes, shapes and formats; some with two images, some with three turns, some without an image."""
    rng, rows = random.Random(1), []
    for k in range(CLEAN):
        sides = [max(30, round(448 * 2 ** rng.uniform(-3, 1.5))) for _ in range(2)]
        suffix = rng.choice(["png", "jpg", "webp"])
        images = [picture(folder / f"{k}.{suffix}", *sides, seed=k, grey=k % 7 == 1)]
        if k % 5 == 1:
            images.append(picture(folder / f"{k}-b.png", *sides[::-1], seed=k + 100))
        rows.append(row(*([] if k % 13 == 3 else images), turns=3 if k % 5 == 2 else 1))
    return rows


def two(folder: Path, width: int, height: int, orientation: int = 1) -> list[Row]:
    name = f"{width}x{height}-{orientation}"
    return [row(picture(folder / f"{name}-{k}.jpg", width, height, k + 1, orientation)) for k in range(2)]


def pair(folder: Path) -> list[Row]:
    """Two images of one size in a row: their order shows in nothing but the pixels."""
    return [row(*(picture(folder / f"pair-{k}.png", 224, 224, k + 1) for k in range(2)))]


def preferences(folder: Path) -> list[Row]:
    """Preference pairs about one image, about two, and in a conversation."""
    images = [picture(folder / f"preferred-{k}.jpg", 320 + 40 * k, 240, k) for k in range(2)]
    rows = [row(images[0]), row(*images), row(images[1], turns=3)]
    return [{**one, "rejected_response": f"A square.\n{k}"} for k, one in enumerate(rows)]


def too_long(one: Row) -> Row:
    return {**one, "rejected_response": "A square. " * 4096}


def unstoppable(folder: Path) -> None:
    """Let the served model stop at another token than the one that ends a trained answer."""
    for name, key, value in (
        ("generation_config.json", "eos_token_id", 151643),
        ("tokenizer_config.json", "eos_token", "<|endoftext|>"),
    ):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {key: value}))


def other_system(one: Row) -> Row:
    return {**one, "messages": [{"role": "system", "content": OTHER_SYSTEM}, *one["messages"][1:]]}


def swapped(one: Row) -> Row:
    return {**one, "images": one["images"][::-1]}


FAULTS = {
    "system prompt": Fault("system prompt", lambda f: two(f, 300, 200), {}, {}, other_system),
    "max_pixels": Fault("max_pixels", lambda f: two(f, 1000, 700), {}, {"MAX_PIXELS": str(CAP * 3 // 4)}),
    "ms-swift's max_pixels": Fault("max_pixels", lambda f: two(f, 1003, 1003), {"max_pixels": CAP // 2}, {}),
    "min_pixels": Fault("min_pixels", lambda f: two(f, 60, 57), {}, {"MIN_PIXELS": "100352"}),
    "EXIF": Fault("EXIF orientation", lambda f: two(f, 400, 200, TURNED), {}, {}),
    "EXIF, square": Fault("EXIF orientation", lambda f: two(f, 300, 300, TURNED), {}, {}),
    "chat template": Fault(
        "chat template", lambda f: two(f, 300, 300), {"use_chat_template": False, "system": None}, {}
    ),
    "stop token": Fault("stop token", lambda f: two(f, 300, 300), {}, {}, serves=unstoppable),
    "order": Fault("order of the images", pair, {}, {}, swapped),
    "system prompt of pairs": Fault("system prompt", preferences, {}, {}, other_system, method="dpo"),
    "length of a worse answer": Fault("refused by the trainer", preferences, {}, {}, too_long, method="dpo"),
}
# Rows that are trained on as they are served.
CLEAN_ROWS = {"clean": Fault("", clean, {}, {}), "clean pairs": Fault("", preferences, {}, {}, method="dpo")}


@dataclass(frozen=True)
class Compared:
    """What was found for the clean rows, the clean preference pairs, and the rows of each fault."""

    clean: Certificate
    pairs: Certificate
    faults: dict[str, Certificate]


def compared(run: Run, folder: Path, renders: Renderer) -> Compared:
    """Encode the clean rows and those of every fault in one process of the trainer, and compare each."""
    assert isinstance(run.stage, Parity)
    assert run.stage.train is not None
    planned = CLEAN_ROWS | FAULTS
    jobs, chosen, runs = [], {}, {}
    for k, (name, fault) in enumerate(planned.items()):
        changes = {"args": {**run.stage.train.args, **fault.args}, "method": fault.method}
        train = run.stage.train.model_copy(update=changes)
        scratch = folder / str(k)
        scratch.mkdir()
        chosen[name] = [Chosen(number, one) for number, one in enumerate(fault.rows(folder / "images"), start=1)]
        runs[name] = run
        if fault.serves:
            served = shutil.copytree(
                run.model.path or "", folder / "served", ignore=shutil.ignore_patterns("*.safetensors")
            )
            fault.serves(served)
            runs[name] = run.model_copy(
                update={"weights": "merged", "paths": run.paths.model_copy(update={"merged": served})}
            )
        given = [Chosen(one.number, fault.row(one.row)) for one in chosen[name]]
        job = certificate.write_job(runs[name], run.stage.model_copy(update={"train": train}), given, scratch)
        jobs.append((str(job), certificate.train_command(train, job).env | fault.env))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", JOBS, json.dumps(jobs)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    renders.wait(START_S)
    found = {name: certificate.compare(run, chosen[name], folder / str(k), renders) for k, name in enumerate(planned)}
    return Compared(found.pop("clean"), found.pop("clean pairs"), found)


@pytest.fixture(scope="module", params=SERVED, ids="-".join)
def family(
    request: pytest.FixtureRequest, parsed: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compared]:
    family, engine = request.param
    folder = tmp_path_factory.mktemp(f"{family}-{engine}")
    random_checkpoint.make(family, folder / "model")
    run = parsed(
        *("stage=parity", "model=hf", f"model.path={folder / 'model'}", f"model.max_pixels={CAP}", "dataset=d"),
        *("model.images_per_prompt=2", "hardware.max_model_len=4096", "max_length=4096"),
        f"engine@hardware.engine={engine}",
    )
    run = run.model_copy(update={"task": run.task.model_copy(update={"system_prompt": SYSTEM})})
    child, renders = renderer.start(run, folder / "renderer.log")
    with child:
        yield compared(run, folder, renders)


def test_clean_rows_are_trained_on_as_they_are_served(family: Compared) -> None:
    assert family.clean.sentences() == []
    assert family.clean.counts == {"equal": CLEAN}


def test_both_answers_of_a_preference_pair_are_compared(family: Compared) -> None:
    assert family.pairs.sentences() == []
    assert family.pairs.counts == {"equal": len(family.pairs.rows)}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named_with_its_cause_alone(family: Compared, name: str) -> None:
    found = family.faults[name]
    assert list(found.causes) == [FAULTS[name].cause], found.sentences()
    assert found.counts == {"different": len(found.rows)}
