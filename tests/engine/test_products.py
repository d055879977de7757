"""All of VisualDataset100K: the commands that convert prints make every product, here with tiny models."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.conftest import command_line
from tests.engine.conftest import Fleet, rows, summary

pytestmark = pytest.mark.engine

IMAGES = 48
# The tiny teacher stands in for all four models; a different temperature for each makes their answers differ.
TEMPERATURE = {"qwen2-vl-2b": 0.9, "qwen2-vl-7b": 0.7, "qwen2-vl-72b": 0.5, "claude-3-5-sonnet": 0.0}
PROMPT = {"question": "Ask a question about the picture.", "details": "Describe the image in detail."}
ANSWER = {"id", "question", "answer"}


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command_line(*arguments), cwd=folder, capture_output=True, text=True, check=False)


def printed_commands(output: str) -> list[list[str]]:
    """The arguments of each ``python run.py`` command in ``output``."""
    return [shlex.split(line)[2:] for line in re.findall(r"^  (python run\.py .*)$", output, re.MULTILINE)]


def stand_in(arguments: list[str], urls: str) -> list[str]:
    """The arguments of a printed command, with the endpoint at ``urls`` in place of the model that it names."""
    chosen = dict(argument.split("=", 1) for argument in arguments)
    prompt = PROMPT.get(chosen["task"])
    return [
        *arguments,
        f"hardware.urls=[{urls}]",
        "model.served_name=tiny-teacher",
        "model.api_key_env=null",
        f"task.sampling.temperature={TEMPERATURE[chosen['model']]}",
        "task.sampling.max_tokens=40",
        *([f"task.prompt='{prompt}'"] if prompt else []),
    ]


def test_the_printed_commands_make_every_product(fleet: Fleet, tmp_path: Path) -> None:
    assert call(tmp_path, "stage=render", f"stage.train={IMAGES}", "stage.heldout=1").returncode == 0
    start = ["experiment=vd100k", "images=outputs/images/scenes-42/train"]
    first = call(tmp_path, *start)
    assert first.returncode == 1
    assert "0 of 16 files made" in first.stdout
    commands = printed_commands(first.stdout)
    assert len(commands) == 10, "two of details, two of questions, six of answers"
    urls = ",".join(f"http://127.0.0.1:{port}/v1" for port in fleet.replicas)
    for k, arguments in enumerate(commands):
        done = call(tmp_path, *stand_in(arguments, urls))
        assert done.returncode == 0, done.stderr
        if k == 5:
            half = call(tmp_path, *start)
            assert half.returncode == 0, half.stderr
            assert "4 of 16 files made" in half.stdout
            assert len(printed_commands(half.stdout)) == 4
    done = call(tmp_path, *start)
    assert done.returncode == 0, done.stderr
    assert "16 of 16 files made" in done.stdout

    made = tmp_path / "outputs/data/VisualDataset100K"
    counts, rejected = summary(tmp_path)["counts"], summary(tmp_path)["metrics"]["rejected"]
    asked = [row["id"] for row in rows(tmp_path / "outputs/data/VD58K/question/claude-3-5-sonnet.jsonl")]
    entries = json.loads((made / "dataset_info.json").read_text(encoding="utf-8"))
    names = {"Claude3_5sonnnet", "Qwen2VL2B", "Qwen2VL7B", "Qwen2VL72B"}
    sorted_files = {f"QuestionsAnswers-{name}-sorted.jsonl" for name in names}
    sets = {"Qwen2VL2B_Details.jsonl", "Qwen2VL7B_Details.jsonl"}
    sets |= {"QuestionsAnswers_Qwen2VL2B.jsonl", "QuestionsAnswers_Qwen2VL7B.jsonl"} | sorted_files
    for file in sets:
        content = rows(made / file)
        assert len(content) == counts[file]
        assert counts[file] + sum(rejected[file].values()) == IMAGES
        assert all(set(row) == ANSWER for row in content)
        if file in sorted_files:
            order = [row["id"] for row in content]
            assert order == [id for id in asked if id in set(order)]
    pairs = {f"{better}-{worse}.json" for better in ("Claude", "Qwen2VL72B") for worse in ("Qwen2VL2B", "Qwen2VL7B")}
    for file in pairs | {f"QuestionsAnswers-{name}.json" for name in names}:
        content = json.loads((made / file).read_text(encoding="utf-8"))
        assert len(content) == counts[file] > 0
        assert counts[file] + sum(rejected[file].values()) == IMAGES
        fields = {"id", "image", "conversations"} | ({"chosen", "rejected"} if file in pairs else set())
        assert all(set(row) == fields for row in content)
        assert entries[Path(file).stem]["file_name"] == file
        assert ("ranking" in entries[Path(file).stem]) == (file in pairs)
        if file in pairs:
            assert all(row["chosen"]["value"] != row["rejected"]["value"] for row in content)
    assert len(list(made.glob("*.json*"))) == 16 + 16 + 1, (
        "the products, the rejected rows of each, and dataset_info.json"
    )
