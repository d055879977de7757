"""Held-out images that a model was trained on are found in any form, and refused before anything is asked."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chat_server import chat_server
from tests.unit.similarity.pictures import CHANGES, photo
from vd100k.images.find import find_images
from vd100k.io import jsonl
from vd100k.similarity import leaks

Call = Callable[..., subprocess.CompletedProcess[str]]


def save(folder: Path, seeds: range, change: str | None = None) -> Path:
    folder.mkdir()
    for seed in seeds:
        image = photo(seed) if change is None else CHANGES[change](photo(seed))
        image.save(folder / f"{change or 'photo'}-{seed}.png")
    return folder


def test_the_pairs_are_found_and_named(tmp_path: Path) -> None:
    training = save(tmp_path / "training", range(10))
    held_out = save(tmp_path / "heldout", range(8, 14), "resized")
    (held_out / "broken.png").write_bytes(b"no image")
    images = [image.path for image in find_images(str(training))]
    found = leaks.find(find_images(str(held_out)), [*images, str(tmp_path / "gone.png")], tmp_path / "cache")
    pairs = [(leak.id, Path(leak.training).name) for leak in found]
    assert pairs == [("resized-8.png", "photo-8.png"), ("resized-9.png", "photo-9.png")]
    text = leaks.message(found, 7, "stage", "heldout", tmp_path / "leaked.jsonl")
    assert "2 of 7 held-out images" in text
    assert "resized-8.png (trained on as photo-8.png)" in text
    assert "stage.if_leaked=drop" in text


def test_the_same_file_on_both_sides_is_a_leak(tmp_path: Path) -> None:
    folder = save(tmp_path / "photos", range(3))
    images = list(find_images(str(folder)))
    found = leaks.find(images[:1], [image.path for image in images], tmp_path / "cache")
    assert [(leak.path, leak.training) for leak in found] == [(images[0].path, images[0].path)]


def test_the_training_images_are_those_of_both_training_files(tmp_path: Path) -> None:
    jsonl.write(tmp_path / "train.jsonl", [{"images": ["a.png", "b.png"]}, {"images": ["a.png"]}, {"messages": []}])
    jsonl.write(tmp_path / "val.jsonl", [{"images": ["c.png"]}])
    assert list(leaks.trained_on(tmp_path)) == ["a.png", "b.png", "c.png"]
    assert list(leaks.trained_on(tmp_path / "nowhere")) == []


@pytest.fixture
def evaluation(tmp_path: Path) -> list[str]:
    """The options of an evaluation of which half of the held-out images were trained on."""
    training = save(tmp_path / "training", range(6))
    held_out = save(tmp_path / "heldout", range(4, 8), "compressed")
    trained = tmp_path / "outputs/data/photos/details/m.swift/train.jsonl"
    trained.parent.mkdir(parents=True)
    jsonl.write(trained, ({"messages": [], "images": [str(path)]} for path in sorted(training.iterdir())))
    jsonl.write(tmp_path / "labels.jsonl", ({"id": path.name, "answer": "a"} for path in held_out.iterdir()))
    options = ["stage=evaluate", "dataset=photos", "task=details", "answers=m", "stage.sides=[after]"]
    return [*options, "stage.images=heldout", "stage.labels=labels.jsonl", "hardware=cpu", "model=tiny-student"]


def test_an_evaluation_on_trained_images_is_refused_before_anything_is_asked(
    vd100k: Call, evaluation: list[str], tmp_path: Path
) -> None:
    with chat_server(lambda n, body: "a") as server:
        asking = [*evaluation, f"hardware.urls=[{server.url}]"]
        done = vd100k(*asking, "stage.ask.check=false")
        assert done.returncode == 1
        assert "2 of 4 held-out images are among the training images" in done.stderr
        assert "compressed-4.png (trained on as photo-4.png)" in done.stderr
        assert not server.requests
        report = (tmp_path / "outputs/latest/report.html").read_text(encoding="utf-8")
        shown = report[report.index("Images that show the same, side by side") :]
        assert all(f"{name}-{seed}.png" in shown for seed in (4, 5) for name in ("compressed", "photo"))
        assert len(list((tmp_path / "outputs/latest/copies").iterdir())) == 2

        done = vd100k(*asking, "stage.if_leaked=drop")
        assert done.returncode == 0, done.stderr
        assert "2 held-out images are left out" in done.stdout
        assert "2 held-out images" in done.stdout

        done = vd100k(*asking, "stage.if_leaked=warn")
        assert done.returncode == 0, done.stderr
        assert "2 of 4 held-out images are among the training images" in done.stdout


def test_a_pipeline_refuses_before_its_first_step(vd100k: Call, tmp_path: Path) -> None:
    save(tmp_path / "training", range(6))
    for name, seeds in (("heldout", range(4, 8)), ("unseen", range(6, 9)), ("others", range(5, 7))):
        held_out = save(tmp_path / name, seeds, "grey")
        labels = ({"id": path.name, "answer": "a"} for path in held_out.iterdir())
        jsonl.write(tmp_path / f"{name}.jsonl", labels)

    def refused(images: str, *more: str) -> str:
        with chat_server(lambda n, body: "a") as server:
            done = vd100k(
                *("stage=pipeline", "images=training", "task=details", "model=tiny-student", "hardware=cpu"),
                *("hardware@teacher.hardware=api", "model@teacher.model=gpt-4o", "teacher.model.api_key_env=null"),
                *(f"teacher.hardware.urls=[{server.url}]", f"stage.evaluate.images={images}"),
                *(f"stage.evaluate.labels={images}.jsonl", *more),
            )
            assert done.returncode == 1
            assert "[1/5]" not in done.stdout
            assert not server.requests
        return done.stderr

    assert "stage.evaluate.images=heldout: 2 of 4 held-out images" in refused("heldout")
    also = "stage.evaluate.also=[{task: vqa, images: others, labels: others.jsonl}]"
    assert "stage.evaluate.also[0].images=others: 1 of 2 held-out images" in refused("unseen", also)
