"""What an image becomes when ms-swift trains on it is what it becomes when it is served, and convert counts it so."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import ROOT
from vd100k.config.run import Run
from vd100k.conversion.formats import LAYOUTS, turns
from vd100k.conversion.token_lengths import TokenLengths
from vd100k.engines import commands
from vd100k.images.groups import names
from vd100k.images.resizing import SizeRule
from vd100k.tiny import random_checkpoint

pytestmark = pytest.mark.engine

CAP = 1_003_520
PHOTOS = [(4032, 3024), (1920, 1080), (3024, 4032), (1600, 1200), (5000, 700), (1279, 977), (112, 112)]
RANDOM = 200
PAIRS = 20  # images of which each two make a row with several turns
# Questions and answers that a tokenizer merges differently at their ends and in the chat format around them.
TEXTS = [
    ("What is it?", "a red shape"),
    ("\nWhere?\n\n", "\n\nhere and there \n"),
    ("它是什么？", "红色的圆形。"),
    (' {"n": 1} ', '{"colour": "red", "n": 10}'),
    ("assistant\n", "🙂 hello\thello"),
]
# Merges of bytes, as in the published tokenizers: two line breaks, a space before a letter, a word.
MERGES = ["Ċ Ċ", "Ġ t", "h e", "l l", "he ll", "hell o", "Ġ Ċ", "> Ċ"]
# How Qwen's tokenizers split text before merging.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Encoded:
    """One row, encoded by ms-swift: its grids and the server's, the number of tokens, and the last of them."""

    trained: list[list[int]]
    served: list[list[int]]
    tokens: int
    end: str


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, tuple[int, int]]:
    """Image files of the sizes of photos and of random sizes."""
    folder, rng = tmp_path_factory.mktemp("images"), random.Random(0)
    drawn = [(round(28 * 2 ** rng.uniform(0, 6)), round(28 * 2 ** rng.uniform(0, 6))) for _ in range(RANDOM)]
    made = {folder / f"{k}.png": size for k, size in enumerate(PHOTOS + drawn)}
    for path, size in made.items():
        Image.new("RGB", size, (10, 20, 30)).save(path, compress_level=1)
    return made


def checkpoint(folder: Path, family: str) -> Path:
    """A checkpoint without weights, whose tokenizer merges some bytes."""
    random_checkpoint.save_settings(family, folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocab = tokenizer["model"]["vocab"]
    for number, merge in enumerate(MERGES):
        vocab[merge.replace(" ", "")] = 256 + number
    tokenizer["model"]["merges"] = MERGES
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, tokenizer["pre_tokenizer"]]}
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    return folder


def encoded(run: Run, rows: list[dict[str, Any]], folder: Path, env: dict[str, str], **options: int) -> list[Encoded]:
    """The rows, encoded by ms-swift with the options of ``run``, and as its server would resize the same images."""
    rule = SizeRule.of(run.model)
    request = {
        "folder": run.model.path,
        "model_type": run.model.model_type,
        "template": run.model.template,
        "system": run.system,
        "rule": [rule.token_side, rule.min_pixels, rule.max_pixels],
        "server": {"min_pixels": rule.min_pixels, "max_pixels": rule.max_pixels},
        "options": options,
        "rows": rows,
    }
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    worker = [sys.executable, "-m", "tests.engine.grid_worker", str(folder / "request.json")]
    done = subprocess.run(worker, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert "FOUND" in done.stdout, done.stderr[-3000:]
    return [Encoded(*found) for found in json.loads(done.stdout.split("FOUND")[1])]


def single(number: int, path: Path) -> dict[str, Any]:
    """A row about one image, with one of the texts."""
    question, answer = TEXTS[number % len(TEXTS)]
    return {"image": str(path), "question": question, "answer": answer}


@pytest.mark.parametrize("family", random_checkpoint.FAMILIES)
def test_an_image_is_trained_on_the_grid_that_it_is_served_with_and_counted_so(
    parsed: Callable[..., Run], tmp_path: Path, images: dict[Path, tuple[int, int]], family: str
) -> None:
    folder = checkpoint(tmp_path / family, family)
    chosen = ["dataset=d", "model=hf", f"model.path={folder}", f"model.max_pixels={CAP}"]
    run = parsed("stage=finetune", *chosen)
    served = parsed("stage=serve", *chosen).hardware.engine
    assert served
    assert served.args["mm_processor_kwargs"] == {"min_pixels": run.model.min_pixels, "max_pixels": CAP}
    rows = [single(k, path) for k, path in enumerate(images)] + [
        {"images": [str(path) for path in pair], "turns": TEXTS[k % 3 : k % 3 + 3]}
        for k, pair in enumerate(itertools.pairwise(list(images)[:PAIRS]))
    ]
    written = [LAYOUTS["swift"](row, None) for row in rows]
    found = encoded(run, written, tmp_path, commands.train(run.stage, tmp_path).env)
    counted = TokenLengths(run.model.path, run.system, SizeRule.of(run.model), 1)
    for row, seen in zip(rows, found, strict=True):
        sizes = [images[Path(name)] for name in names(row)]
        assert seen.trained == seen.served, sizes
        assert counted.excess(turns(row), sizes) == seen.tokens, row
        assert seen.end.endswith("<|im_end|>\n")


def test_the_option_max_pixels_of_ms_swift_trains_on_other_grids(
    parsed: Callable[..., Run], tmp_path: Path, images: dict[Path, tuple[int, int]]
) -> None:
    """Why stage.args.max_pixels is refused; if this fails, ms-swift has changed, and the option may be used again."""
    folder = checkpoint(tmp_path / "model", "qwen2_vl")
    run = parsed("stage=finetune", "dataset=d", "model=hf", f"model.path={folder}", f"model.max_pixels={CAP}")
    rows = [LAYOUTS["swift"](single(k, path), None) for k, path in enumerate(list(images)[: len(PHOTOS)])]
    found = encoded(run, rows, tmp_path, {}, max_pixels=CAP)
    assert any(row.trained != row.served for row in found)
