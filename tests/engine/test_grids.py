"""What an image becomes when ms-swift trains on it is what it becomes when it is served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vd100k.config.run import Run
from vd100k.conversion.token_lengths import visual_tokens
from vd100k.engines import commands
from vd100k.tiny import checkpoint

pytestmark = pytest.mark.engine

# The class names, patch size and smallest image of each family, as in the published checkpoints.
FAMILIES = {
    "qwen2_vl": ("Qwen2VL", 14, 3136),
    "qwen2_5_vl": ("Qwen2_5_VL", 14, 3136),
    "qwen3_vl": ("Qwen3VL", 16, 65_536),
}
CAP = 1_003_520
OVER = [(4032, 3024), (3024, 4032), (1600, 1200), (5000, 700), (1279, 977), (1003, 1003)]
UNDER = [(1000, 1000), (640, 480), (112, 112), (60, 57)]

# Prints the grid of each image as ms-swift trains on it, and as the checkpoint's own processor makes it.
GRIDS = """
import json, sys
from PIL import Image
from swift.model import get_processor
from swift.template import get_template
from transformers import AutoProcessor
folder, family, cap, sizes, options = json.loads(sys.argv[1])
template = get_template(get_processor(folder, model_type=family), template_type=family, **options)
template.set_mode("train")
served = AutoProcessor.from_pretrained(folder).image_processor
found = []
for size in sizes:
    image = Image.new("RGB", size, (10, 20, 30))
    turns = [{"role": "user", "content": "<image>q"}, {"role": "assistant", "content": "a"}]
    ours = template.encode({"messages": turns, "images": [image]})
    theirs = served(images=[image], return_tensors="pt", max_pixels=cap)
    found.append([made["image_grid_thw"].tolist()[0] for made in (ours, theirs)])
print("FOUND" + json.dumps(found))
"""
Grids = list[tuple[list[int], list[int]]]


def processor(folder: Path, family: str) -> Path:
    """The processor of a checkpoint of this family, without weights."""
    name, patch, least = FAMILIES[family]
    folder.mkdir()
    checkpoint.save_tokenizer(folder)
    path = folder / "preprocessor_config.json"
    bounds = {"min_pixels": least, "max_pixels": 12_845_056}
    size = {"shortest_edge": least, "longest_edge": 12_845_056}
    content = json.loads(path.read_text()) | bounds | {"patch_size": patch, "size": size}
    path.write_text(json.dumps(content | {"processor_class": f"{name}Processor"}))
    video = "Qwen3VLVideoProcessor" if family == "qwen3_vl" else "Qwen2VLVideoProcessor"
    (folder / "video_preprocessor_config.json").write_text(
        json.dumps({"video_processor_type": video, "patch_size": patch})
    )
    architecture = {"model_type": family, "architectures": [f"{name}ForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps(checkpoint.config() | architecture))
    return folder


def grids(folder: Path, family: str, env: dict[str, str], options: dict[str, int]) -> Grids:
    given = json.dumps([str(folder), family, CAP, OVER + UNDER, options])
    done = subprocess.run(
        [sys.executable, "-c", GRIDS, given], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert "FOUND" in done.stdout, done.stderr[-3000:]
    found: Grids = [(trained, served) for trained, served in json.loads(done.stdout.split("FOUND")[1])]
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_trained_on_the_grid_that_it_is_served_with(
    parsed: Callable[..., Run], tmp_path: Path, family: str
) -> None:
    chosen = ["dataset=d", "model=qwen2-vl-2b", f"model.model_type={family}", f"model.max_pixels={CAP}"]
    run = parsed("stage=finetune", *chosen)
    command = commands.train(run.stage, tmp_path)
    found = grids(processor(tmp_path / family, family), family, command.env, {})
    bounds = run.model.least_pixels, run.model.max_pixels, run.model.token_side
    for (width, height), (trained, served) in zip(OVER + UNDER, found, strict=True):
        assert trained == served, (width, height)
        # What convert compares with max_length; a token is 2 x 2 patches.
        assert trained[1] * trained[2] // 4 == visual_tokens(width, height, *bounds), (width, height)


def test_the_option_max_pixels_of_ms_swift_trains_on_other_grids(tmp_path: Path) -> None:
    """Why stage.args.max_pixels is refused; if this fails, ms-swift has changed, and the option may be used again."""
    found = grids(processor(tmp_path / "model", "qwen2_vl"), "qwen2_vl", {}, {"max_pixels": CAP})
    assert any(trained != served for trained, served in found[: len(OVER)])
