"""What a run says about the rows of earlier runs: of another folder, under another task, in parts."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chat_server import chat_server
from tests.conftest import ROOT, command_line, draw_pictures
from tests.unit.generation.test_run import ask, rows

Result = subprocess.CompletedProcess[str]


@pytest.mark.parametrize("first", ["", "preview=2", "shard=1/2"])
def test_a_second_folder_of_the_same_name_is_refused_before_anything_is_sent(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path, first: str
) -> None:
    other = draw_pictures(tmp_path / "other/pictures", 8, seed=1)
    (other / "07.png").rename(other / "extra.png")
    with chat_server(lambda n, body: "a") as server:
        assert ask(vd100k, server, *filter(None, [first])).returncode == 0
        sent, files = len(server.requests), read_all(tmp_path / "outputs/data")
        for extra in ("dry_run=true", "dry_run=false", "preview=3", "shard=2/2"):
            refused = ask(vd100k, server, f"images={other}", extra)
            assert refused.returncode == 1
            assert f"answers about the images of {pictures}, but images={other}" in refused.stderr
            assert "dataset=NAME" in refused.stderr
        assert len(server.requests) == sent
        assert read_all(tmp_path / "outputs/data") == files
        assert ask(vd100k, server, f"images={other}", "dataset=others").returncode == 0
        assert len(server.requests) == sent + 8


def read_all(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_was_moved_or_copied_keeps_its_rows(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: "a") as server:
        ask(vd100k, server)
        copied = shutil.copytree(pictures, tmp_path / "copy/pictures")
        shutil.rmtree(pictures)
        draw_pictures(copied, 8)  # the same six and two more
        (tmp_path / "link").symlink_to(tmp_path / "copy")
        for folder in (copied, tmp_path / "link/pictures"):
            done = ask(vd100k, server, f"images={folder}")
            assert done.returncode == 0, done.stderr
        assert len(server.requests) == 8
    assert len(rows(tmp_path)) == 8


def test_answers_under_another_task_are_mentioned_before_anything_is_asked(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    exist = "6 answers of gpt-4o about this data set exist under task=details: add task=details to use them."
    note = f"{exist} task=vqa asks about all images again."
    with chat_server(lambda n, body: "a") as server:
        assert note not in ask(vd100k, server).stdout
        assert note in ask(vd100k, server, "task=vqa", "dry_run=true").stdout
        assert note not in ask(vd100k, server, "task=scene", "dry_run=true").stdout, "it answers in JSON"
        convert = vd100k("stage=convert", "dataset=pictures", "model=gpt-4o", "task=vqa")
        assert convert.returncode == 1
        assert exist in convert.stderr
        assert vd100k("stage=convert", "dataset=pictures", "model=gpt-4o", "task=details").returncode == 0
        asked = ask(vd100k, server, "task=vqa")
        assert note in asked.stdout
        assert asked.stdout.index(note) < asked.stdout.index("6/6 images")
        assert note not in ask(vd100k, server, "task=vqa", "dry_run=true").stdout, "it has answers of its own now"


def test_convert_names_the_shards_and_a_command_that_joins_them(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    convert = ("stage=convert", "dataset=pictures", "model=gpt-4o", "task=details")
    folder = Path("outputs/data/pictures/details")
    with chat_server(lambda n, body: "a") as server:
        ask(vd100k, server, "shard=1/2")
        half = vd100k(*convert)
        assert half.returncode == 1
        assert f"{folder}/gpt-4o.shard-1-of-2.jsonl" in half.stderr
        assert "No file of shard 2/2 is there, so this also asks about its images." in half.stderr
        ask(vd100k, server, "shard=2/2")
        assert len(server.requests) == 6
        refused = vd100k(*convert)
        assert f"{folder}/gpt-4o.shard-2-of-2.jsonl" in refused.stderr
        assert "No file of shard" not in refused.stderr
        (command,) = [line for line in refused.stderr.splitlines() if line.startswith("  python run.py")]
        _, program, *overrides = shlex.split(command)
        assert (ROOT / program).exists()
        joined = subprocess.run(command_line(*overrides), cwd=tmp_path, capture_output=True, text=True, check=False)
        assert joined.returncode == 0, joined.stderr
        assert len(server.requests) == 6
    assert vd100k(*convert).returncode == 0


def test_shards_of_other_machines_get_a_command_from_the_settings(
    vd100k: Callable[..., Result], tmp_path: Path, pictures: Path
) -> None:
    with chat_server(lambda n, body: "a") as server:
        ask(vd100k, server, "shard=1/1")
    shutil.rmtree(tmp_path / "outputs/runs")
    (tmp_path / "outputs/data/pictures/details/gpt-4o.jsonl").unlink(missing_ok=True)
    refused = vd100k("stage=convert", "images=pictures", "model=gpt-4o", "hardware=api", "task=details")
    says = "python run.py stage=generate images=pictures dataset=pictures task=details model=gpt-4o hardware=api"
    assert says in refused.stderr
