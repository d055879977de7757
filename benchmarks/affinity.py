"""Compare image affinity (all prompts of an image go to one server) with round robin, on two real vLLM servers.

    python -m benchmarks.affinity            # 5 rounds; takes some minutes
    python -m benchmarks.affinity --images 40 --rounds 10

The servers are two replicas of the tiny teacher (vLLM's CPU build). There are four prompts per image, images of
672 x 672, answers of 4 tokens and 8 requests in flight. Each server's cache has room for 8,192 tokens, a dozen of
these images, so that it cannot hold all of them, like that of a real server with a hundred thousand images. Each
client uses new images in each round, so that none benefits from images that another client left in the cache:

- vd100k: ``stage=generate``
- in turn: round robin, that is, requests alternate between the servers, image by image
- in turn, task by task: the same, with the first prompt for all images before the second prompt

The benchmark prints a table and writes ``benchmarks/results/affinity.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.serving import serving

HERE = Path(__file__).parent
ROOT = HERE.parent
SIDE = 672
IN_FLIGHT = 8
PROMPTS = ["What colour is it?", "Which shape is it?", "How many are there?", "Describe the picture."]
# The names in the command line and in the JSON file -> those in the table.
ASKERS = {"vd100k": "vd100k", "in turn": "round robin", "in turn, task by task": "round robin, task by task"}
WARM_UP = 4  # images
BLOCKS = 64  # cache blocks of 128 tokens, vLLM's block size on a CPU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=4, help="limit of each answer")
    parser.add_argument("--askers", nargs="+", default=list(ASKERS), choices=list(ASKERS), help="clients")
    parser.add_argument("--port", type=int, default=8700)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "affinity.json")
    args = parser.parse_args()
    rates: dict[str, list[float]] = {name: [] for name in args.askers}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        urls = [f"http://127.0.0.1:{args.port + k}/v1" for k in range(2)]
        settings = [f"model.max_pixels={SIDE * SIDE}", f"+hardware.engine.args.num_gpu_blocks_override={BLOCKS}"]
        with serving(place, f"hardware.port={args.port}", *settings):
            for number in range(args.rounds + 1):
                images = args.images if number else WARM_UP
                for k, name in enumerate(args.askers):
                    drawn = draw(place / f"{number}-{k}", images, seed=10 * number + k)
                    seconds = ask(name, drawn, urls, args.max_tokens)
                    if number:
                        rates[name].append(images * len(PROMPTS) / seconds)
                        print(f"{name}: {rates[name][-1]:.2f} requests/s", file=sys.stderr)
    table = Table(*("client", "requests/s, median", "lowest", "highest", "vd100k relative to it, median", "lowest"))
    for name, found in rates.items():
        ratios = [ours / other for ours, other in zip(rates["vd100k"], found, strict=True)]
        figures = [statistics.median(found), min(found), max(found), statistics.median(ratios), min(ratios)]
        table.add_row(ASKERS[name], *(f"{figure:.2f}" for figure in figures))
    Console().print(table)
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(rates, indent=2) + "\n", encoding="utf-8")


def draw(folder: Path, count: int, seed: int) -> Path:
    """Write the images and two lists of their prompts, image by image and task by task. Return the folder."""
    (folder / "images").mkdir(parents=True)
    random = numpy.random.default_rng(seed)
    names = [f"{k:03d}.png" for k in range(count)]
    for name in names:
        colours = Image.fromarray(random.integers(0, 255, (21, 21, 3), dtype=numpy.uint8))
        colours.resize((SIDE, SIDE), Image.Resampling.NEAREST).save(folder / "images" / name)
    for order, pairs in (
        ("images", [(name, prompt) for name in names for prompt in PROMPTS]),
        ("tasks", [(name, prompt) for prompt in PROMPTS for name in names]),
    ):
        lines = (json.dumps({"id": name, "question": prompt}) + "\n" for name, prompt in pairs)
        (folder / f"{order}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def ask(name: str, folder: Path, urls: list[str], max_tokens: int) -> float:
    """Send all prompts with one client and return the seconds it took."""
    if name != "vd100k":
        order = "tasks" if "task" in name else "images"
        script = HERE / "contestants" / "round_robin.py"
        command = [
            *(sys.executable, str(script), ",".join(urls), str(folder / "images")),
            *(str(folder / f"{order}.jsonl"), str(IN_FLIGHT), str(max_tokens)),
        ]
        return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    command = [
        *(sys.executable, str(ROOT / "run.py"), "stage=generate", "images=images", "hardware=api", "tracking=none"),
        *(f"hardware.urls=[{','.join(urls)}]", "model=tiny-teacher", f"model.max_pixels={SIDE * SIDE}"),
        *("task=answer", "task.questions=tasks.jsonl", "task.prompt='{{ question }}'", "task.system_prompt=null"),
        *(
            f"task.sampling={{max_tokens: {max_tokens}, temperature: 0}}",
            f"stage.max_in_flight={IN_FLIGHT}",
            "stage.check=false",
        ),
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    rows = folder / "outputs/data/images/answer/tiny-teacher.jsonl"
    assert rows.read_bytes().count(b"\n") == len((folder / "tasks.jsonl").read_text(encoding="utf-8").splitlines())
    # The settings file is written just before the first request, so the start of the process is excluded, as it is
    # for the round-robin client.
    return rows.stat().st_mtime - rows.with_name("tiny-teacher.settings.json").stat().st_mtime


if __name__ == "__main__":
    main()
