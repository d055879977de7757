"""Each Qwen-VL family goes through the whole loop: trained, exported, served with its adapter and merged, and asked.

The checkpoints are random, so their answers mean nothing; but every program must give the same ones.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import ROOT, free_ports
from tests.engine.conftest import START_S, Running, rows, summary
from tests.engine.test_finetune import call
from vd100k.conversion.token_lengths import TokenLengths
from vd100k.images.encode import encode
from vd100k.images.resizing import SizeRule
from vd100k.io.preprocessor import image_sizes
from vd100k.tiny.random_checkpoint import FAMILIES

pytestmark = [pytest.mark.engine, pytest.mark.story, pytest.mark.timeout(900)]

CAP = 100_352  # a whole number of tokens of each family
SIZES = [(640, 480), (112, 112), (300, 200), (97, 333), (256, 256), (480, 270)]
TOKENS = 12
QUESTION = "What is it?"


def pictures(folder: Path) -> list[Path]:
    """Noisy images of several sizes, one of them over the cap."""
    folder.mkdir()
    rng = random.Random(0)
    made = []
    for width, height in SIZES:
        coarse = Image.frombytes("RGB", (8, 8), rng.randbytes(192))
        path = folder / f"{width}x{height}.png"
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path)
        made.append(path)
    return made


class Loop:
    """The stages with one family's checkpoint in a folder of their own."""

    def __init__(self, folder: Path, family: str) -> None:
        self.folder, self.family = folder, family
        self.images = pictures(folder / "images")
        self.common = [
            *("dataset=noise", "task=vqa", "task.language=en", f"task.prompt={QUESTION}", "answers=people"),
            *("model=hf", "model.path=model", "model.name=tiny", f"model.max_pixels={CAP}", "hardware=cpu"),
            *("task.sampling.temperature=0", f"task.sampling.max_tokens={TOKENS}"),
        ]
        make = [sys.executable, "-m", "vd100k.tiny", family, str(folder / "model")]
        subprocess.run(make, check=True, capture_output=True, cwd=ROOT)

    def run(self, stage: str, *overrides: str) -> str:
        """Run a stage to its end and return its output."""
        done = call(self.folder, f"stage={stage}", *self.common, *overrides)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def answers(self, url: str, model: str, name: str) -> dict[str, str]:
        """The answers of a running server about all images, by image id; ``name`` is the one of their file."""
        asked = [f"images={self.folder / 'images'}", f"hardware.urls=[{url}]", f"model.served_name={model}"]
        self.run("generate", *asked, f"model.name={name}", f"answers={name}")
        made = rows(self.folder / f"outputs/data/noise/vqa/{name}.jsonl")
        assert {row["finish_reason"] for row in made} <= {"stop", "length"}
        return {row["id"]: row["answer"] for row in made}


def train(loop: Loop) -> Path:
    """Convert rows with answers of people, train on them for three steps, and merge the result."""
    source = loop.folder / "people.jsonl"
    lines = [{"id": p.name, "image": str(p), "question": QUESTION, "answer": f"a noise {p.stem}"} for p in loop.images]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    no_split = "stage.split_dataset_ratio=0"
    loop.run("convert", f"stage.source={source}", f"image_folder={loop.folder / 'images'}", no_split)
    steps = ["+stage.args.max_steps=3", "stage.args.logging_steps=1", "stage.args.gradient_accumulation_steps=2"]
    loop.run("finetune", *steps, "stage.args.learning_rate=1e-2", "stage.args.dataset_num_proc=1")
    losses = [loss for _, loss in summary(loop.folder)["metrics"]["loss"]]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    loop.run("export")
    assert "6 rows are trained on as they are served" in loop.run("parity", "weights=merged")
    return loop.folder / "outputs/models/tiny/noise-vqa-people/merged"


def expected(loop: Loop, folder: Path) -> dict[str, str]:
    """The greedy answers of transformers, by image id."""
    sizes = image_sizes(folder)
    assert sizes
    request = {
        "folder": str(folder),
        "images": [str(path) for path in loop.images],
        "question": QUESTION,
        "tokens": TOKENS,
        "size": {"shortest_edge": sizes.min_pixels, "longest_edge": CAP},
    }
    (loop.folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    worker = [sys.executable, "-m", "tests.engine.transformers_answers", str(loop.folder / "request.json")]
    done = subprocess.run(worker, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "FOUND" in done.stdout, done.stderr[-3000:]
    return dict(zip([path.name for path in loop.images], json.loads(done.stdout.split("FOUND")[1]), strict=True))


def prompt_tokens(url: str, model: str, path: Path, rule: SizeRule) -> int:
    """The tokens of the prompt about an image, as the server counts them."""
    image = {"type": "image_url", "image_url": {"url": encode(str(path), rule).url.decode()}}
    turn = {"role": "user", "content": [image, {"type": "text", "text": QUESTION}]}
    body = json.dumps({"model": model, "messages": [turn], "max_tokens": 1}).encode()
    request = urllib.request.Request(f"{url}/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return int(json.load(reply)["usage"]["prompt_tokens"])


def check_counts(loop: Loop, merged: Path, url: str) -> None:
    """A row is counted, for the limit of a training row, as the server counts its prompt."""
    sizes = image_sizes(merged)
    assert sizes
    rule = SizeRule(sizes.token_side or 0, sizes.min_pixels or 0, CAP)
    system = None if loop.family == "qwen3_vl" else "You are a helpful assistant."
    counted = TokenLengths(str(merged), system, rule, 1)
    for path, size in zip(loop.images, SIZES, strict=True):
        ends = 2  # <|im_end|> and a line break
        assert (
            counted.excess([(f"<image>{QUESTION}", "")], [size]) == prompt_tokens(url, "model-tuned", path, rule) + ends
        ), size


def check_evaluation(loop: Loop, url: str, right: dict[str, str]) -> None:
    """The base model and the adapter, which one server has under two names, are told apart."""
    labels = loop.folder / "labels.jsonl"
    labels.write_text("".join(json.dumps({"id": id, "answer": text}) + "\n" for id, text in right.items()))
    held_out = [f"stage.images={loop.folder / 'images'}", f"stage.labels={labels}", "stage.if_leaked=warn"]
    loop.run("evaluate", *held_out, f"hardware.urls=[{url}]", "model.served_name=model")
    metrics: dict[str, Any] = summary(loop.folder)["metrics"]
    assert metrics["after"]["exact_match"] == 1
    assert metrics["before"]["exact_match"] < 1


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_trained_and_gives_the_same_answers_everywhere(
    launch: Callable[..., Running], tmp_path: Path, family: str
) -> None:
    loop = Loop(tmp_path, family)
    merged = train(loop)
    ports = free_ports(2)
    urls = {weights: f"http://127.0.0.1:{ports + k}/v1" for k, weights in enumerate(("merged", "adapter"))}
    servers = [
        launch(tmp_path, "stage=serve", *loop.common, f"weights={weights}", f"hardware.port={ports + k}")
        for k, weights in enumerate(urls)
    ]
    right = expected(loop, merged)
    assert len(set(right.values())) > len(right) // 2, f"the answers do not depend on the images: {right}"
    for running in servers:
        running.wait_for("Ctrl-C stops it", START_S)
    assert loop.answers(urls["merged"], "model-tuned", "merged") == right
    assert loop.answers(urls["adapter"], "model-tuned", "adapter") == right
    assert loop.answers(urls["adapter"], "model", "base") != right
    check_counts(loop, merged, urls["merged"])
    check_evaluation(loop, urls["adapter"], right)
    for running in servers:
        running.interrupt()
    swift = ["engine@hardware.engine=swift", "weights=merged", f"hardware.port={ports}"]
    running = launch(tmp_path, "stage=serve", *loop.common, *swift)
    running.wait_for("Ctrl-C stops it", START_S)
    assert loop.answers(urls["merged"], "model-tuned", "swift") == right
    running.interrupt()
