"""About twenty small runs of many kinds, some of which fail: ``python -m docs.miniature FOLDER``, under two minutes.

All of them are real runs of the command line. A local server answers about drawn pictures, sometimes with an error.
The runs are in FOLDER/outputs, where docs/screenshots.py takes its pictures of the index and of reports.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from tests.chat_server import chat_server
from vd100k.tiny.scenes import COLOURS

RUN = [sys.executable, str(Path(__file__).parent.parent / "run.py")]
PHOTOS, SIZE = 60, (640, 480)
LATENCY_S = 0.12  # of an answer
INTERRUPTED_AFTER_S = 5.0
VQA = ["task=vqa", "task.name=colours", "task.prompt='Which colours are in the picture?'"]
DETAILS = ("The light comes from the left.", "The edges are sharp.", "There is no text.", "The background is plain.")

Answers = dict[str, str]  # by the hash of an image file


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    answers = draw_photos(folder / "photos", PHOTOS)

    def reply(number: int, body: dict[str, Any]) -> Any:
        time.sleep(LATENCY_S)
        parts = body["messages"][-1]["content"]
        image = next((part["image_url"]["url"] for part in parts if part["type"] == "image_url"), "")
        key = hashlib.sha256(b64decode(image.partition(",")[2])).hexdigest()
        if body["model"] == "unreliable" and key < "4":  # a quarter of the images
            return 400, {}, '{"error": {"message": "the image was refused by the content filter"}}'
        if body["model"].startswith("claude") and key > "d":
            return "I'm sorry, but I can't assist with that request."
        return answers.get(key, "An image.")

    with chat_server(reply) as server:
        asks = ["hardware=api", f"hardware.urls=[{server.url}]", "model.api_key_env=null", "stage.max_in_flight=4"]
        began = time.monotonic()
        _run(folder, "stage=render", "stage.train=48", "stage.heldout=24")
        answers |= _labels(folder / "outputs/images/scenes-42")
        for overrides in runs(asks):
            _run(folder, *overrides)
        _interrupt(folder, "stage=generate", "images=photos", *asks, "model=gpt-4o", *VQA, "stage.max_in_flight=1")
    print(f"{time.monotonic() - began:.0f} s: {folder / 'outputs/index.html'}")


def runs(asks: list[str]) -> list[list[str]]:
    """The command lines after the first one, which draws pictures."""
    scenes = "outputs/images/scenes-42"
    gpt, claude = ["model=gpt-4o", *asks], ["model=claude-3-5-sonnet", *asks]
    photos, drawn = ["stage=generate", "images=photos"], ["stage=generate", f"images={scenes}/train", "dataset=scenes"]
    convert, rows = ["stage=convert", "images=photos", "model=tiny-student"], "answers=gpt-4o"
    evaluate = ["stage=evaluate", "dataset=scenes", "task=scene", "stage.sides=[before]"]
    evaluate += [f"stage.images={scenes}/heldout", f"stage.labels={scenes}/heldout.jsonl"]
    evaluate += [override for override in gpt if not override.startswith("stage.")]
    return [
        [*photos, *gpt, "dry_run=true"],
        [*photos, *gpt, "limit=12"],
        [*photos, *gpt, "stage.max_in_flight=1"],
        [*photos, *claude],
        [*photos, *claude],  # nothing is left to ask
        [*photos, *gpt, "task=question"],
        [*photos, *gpt, "task=choice", "limit=20", "stage.max_retries=0"],  # replies that cannot be parsed
        [*photos, *gpt, "model.served_name=unreliable", "model.name=unreliable", "stage.check=false"],
        [*photos, *gpt, "model.name=nobody", "hardware.urls=['http://127.0.0.1:1/v1']", "stage.endpoint_wait_s=0"],
        [*drawn, *gpt, "task=scene"],
        [*convert, rows],
        [*convert, rows, "format=sharegpt"],
        [*convert, rows, "format=parquet", "stage.license=cc-by-4.0"],
        [*convert, "answers=claude-3-5-sonnet"],  # some of which are refusals
        [*convert, "answers=unreliable"],
        [*convert, "answers=nobody"],
        evaluate,
        ["stage=render", "stage.train=48", "stage.heldout=24"],
        [*photos, *gpt, "task.sampling.temperature=1"],  # rows made differently exist already
        ["-m", *photos, *gpt, "limit=10", "model.name=small,medium,large"],
    ]


def draw_photos(folder: Path, count: int) -> Answers:
    """Draw pictures of one to three boxes; some answers say where the boxes are, and others describe them.

    The answers are by ``hash_of`` the files.
    """
    folder.mkdir()
    draw, answers = random.Random(3), {}
    for k in range(count):
        image = Image.linear_gradient("L").resize(SIZE).convert("RGB")
        image = Image.blend(image, Image.new("RGB", SIZE, draw.choice(list(COLOURS.values()))), 0.45)
        pen, boxes = ImageDraw.Draw(image), []
        for name in draw.sample(list(COLOURS), draw.randint(1, 3)):
            x, y = draw.randint(10, 400), draw.randint(10, 260)
            box = [x, y, x + draw.randint(80, 220), y + draw.randint(80, 200)]
            pen.rounded_rectangle(box, 16, fill=COLOURS[name], outline=(255, 255, 255), width=4)
            boxes.append({"bbox_2d": box, "label": f"{name} box"})
        path = folder / f"{k:03}.jpg"
        image.save(path, quality=85)
        names = " and ".join(f"a {box['label']}" for box in boxes)
        described = f"The picture shows {names}. {' '.join(draw.sample(DETAILS, draw.randint(0, 4)))}"
        answers[hash_of(path)] = json.dumps(boxes) if k % 3 == 0 else described
    return answers


def _labels(scenes: Path) -> Answers:
    """The labels of the drawn scenes as answers; one of four is wrong."""
    found = {}
    for name in ("train", "heldout"):
        for k, line in enumerate((scenes / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()):
            row = json.loads(line)
            label = row["answer"] | ({"count": 9} if k % 4 == 0 else {})
            found[hash_of(scenes / name / row["id"])] = json.dumps(label)
    return found


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(folder: Path, *overrides: str) -> None:
    began = time.monotonic()
    done = subprocess.run([*RUN, *overrides, "tracking=none"], cwd=folder, capture_output=True, text=True, check=False)
    last = (done.stderr if done.returncode else done.stdout).strip().splitlines()[-1:]
    print(f"{time.monotonic() - began:4.1f} s  rc {done.returncode}  {' '.join(overrides)[:90]}  {''.join(last)[:90]}")


def _interrupt(folder: Path, *overrides: str) -> None:
    """Press Ctrl-C in the middle of a run."""
    with subprocess.Popen([*RUN, *overrides, "tracking=none"], cwd=folder, stdout=subprocess.DEVNULL) as process:
        time.sleep(INTERRUPTED_AFTER_S)
        process.send_signal(signal.SIGINT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
