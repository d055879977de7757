"""What the two sides of an evaluation ask their models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vd100k.config.run import Run
from vd100k.evaluation.sides import sides

Parsed = Callable[..., Run]


def test_each_side_has_its_own_answer_file(parsed: Parsed) -> None:
    run = parsed("experiment=demo").parts["evaluate"]
    before, after = sides(run, run.stage).values()
    folder = Path("outputs/evaluations/scenes-42/scene")
    assert before.paths.rows == folder / "tiny-student.base.jsonl"
    assert after.paths.rows == folder / "tiny-student.merged.jsonl"
    assert before.images == after.images == "outputs/images/scenes-42/heldout"


def test_held_out_images_do_not_change_the_merged_model(parsed: Parsed) -> None:
    run = parsed(
        "experiment=gpt-distill", "stage=evaluate", "images=photos", "stage.images=heldout", "stage.labels=l.jsonl"
    )
    merged = parsed("experiment=gpt-distill", "stage=export", "images=photos").stage.folder
    after = sides(run, run.stage)["after"]
    assert after.model_path == str(merged)
    assert after.images == "heldout"


def test_an_evaluation_asks_the_question_of_the_training_rows(parsed: Parsed) -> None:
    run = parsed("stage=evaluate", "images=p", "stage.images=h", "stage.labels=l.jsonl", "task=details")
    before = sides(run, run.stage)["before"]
    assert before.task.prompt == run.task.question
    assert before.task.reader == "text"
