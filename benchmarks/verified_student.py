"""Is the student better for it? The demo's student, trained on all rows, on those that the gate keeps, on right ones.

``python -m benchmarks.verified_student [FOLDER]`` (about ten minutes on two cores): a model answers about 320 pictures,
30 % wrong in one systematic way, or 60 % with the answers to other pictures. The rows are compared with the answers of
a second model, the demo's teacher; 200 labels find the threshold for 5 %. All trainings take 80 steps, and one server
asks all students about the same 200 held-out pictures. Last, the student that has learned the systematic error is asked
again about its own errors. What is in FOLDER already is not made again.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.verification import CONFUSED, confused, exchanged
from vd100k.io import jsonl

LABELS, MAX_WRONG, STEPS = 200, 0.05, 80
AGAIN = 1  # more answers to each question of a student that repeats its own error
RANDOM_SHARE = 0.6
TEACHER = "tiny-teacher"
DOUBTFUL = {"all": "stage.rules.doubtful=false", "gate": f"stage.max_wrong={MAX_WRONG}"}


class Student(NamedTuple):
    """A student that was trained on ``rows`` rows of a model: on all of them, or on those that the gate keeps."""

    model: str
    variant: str
    rows: int
    adapter: Path

    @property
    def name(self) -> str:
        return f"{self.model}-{self.variant}"


class Figure(NamedTuple):
    """A student's share of exact matches on held-out pictures, with its 95 % interval."""

    share: float
    low: float
    high: float

    @classmethod
    def of(cls, summary: dict[str, Any]) -> Figure:
        """The figure in the summary of an evaluation."""
        low, high = summary["certainty"]["intervals"]["after"]["exact_match"]
        return cls(summary["metrics"]["after"]["exact_match"], low, high)

    def __str__(self) -> str:
        return f"{100 * self.share:.1f} % ({100 * self.low:.0f} to {100 * self.high:.0f})"


def closed(clean: Figure, everything: Figure, kept: Figure) -> float:
    """How much of the gap between a student of all rows and one of right rows the gate closes; 1 is all of it."""
    return (kept.share - everything.share) / (clean.share - everything.share)


class Bench:
    """The commands of the comparison, in one folder of outputs; its server listens on ``port``."""

    def __init__(self, folder: Path, port: int = 8000) -> None:
        self.folder, self.port = folder, port

    def run(self, *overrides: str, check: bool = True) -> str:
        """Run a command, and return what it printed if that is not to be a success."""
        settings = ["tracking=none", f"hardware.port={self.port}", f"output_dir={self.folder}"]
        command = [sys.executable, str(Path(__file__).parents[1] / "run.py"), "experiment=demo", *overrides, *settings]
        done = subprocess.run(command, check=check, text=True, stderr=None if check else subprocess.PIPE)
        return done.stderr or ""

    def rows(self, model: str) -> Path:
        return self.folder / f"data/scenes-42/scene/{model}.jsonl"

    def answered(self) -> tuple[dict[str, str], dict[str, str]]:
        """What the pictures show, and what the teacher says of them, by picture."""
        self.run("stage=render")
        self.run("stage=generate")
        labels = jsonl.read_rows(self.folder / "images/scenes-42/train.jsonl")
        truth = {row["id"]: json.dumps(row["answer"]) for row in labels}
        return truth, {row["id"]: row["answer"] for row in jsonl.read_rows(self.rows(TEACHER))}

    def plant(self, model: str, answers: dict[str, str], truth: dict[str, str]) -> None:
        """Write rows of a model with these answers, labels of a random sample of them, and verdicts of the teacher."""
        rows = [row | {"answer": answers[row["id"]], "model": model} for row in jsonl.read_rows(self.rows(TEACHER))]
        jsonl.write(self.rows(model), rows)
        labels = (
            {
                **{"id": row["id"], "question": row["question"], "by": "truth"},
                "right": json.loads(row["answer"]) == json.loads(truth[row["id"]]),
            }
            for row in random.Random(2).sample(rows, LABELS)
        )
        jsonl.write(self.rows(model).with_name(f"{model}.labels.jsonl"), labels)
        second = ["verify.agreement.samples=0", f"verify.agreement.against=[{TEACHER}]"]
        self.run("stage=verify", f"answers={model}", *second)

    def train(self, model: str, variant: str) -> Student:
        """Train a student on all rows of a model, or on those that the gate keeps."""
        about = [f"answers={model}", f"variant={variant}"]
        self.run("stage=convert", *about, "stage.split_dataset_ratio=0", DOUBTFUL[variant])
        rows = self.last()["counts"]["train"]
        self.run("stage=finetune", *about, f"+stage.args.max_steps={STEPS}")
        return Student(model, variant, rows, Path(self.last()["outputs"][0]["path"]).parent.absolute())

    @contextlib.contextmanager
    def served(self, students: list[Student]) -> Iterator[None]:
        """Serve all students at once: the adapters of one base model."""
        adapters = ",".join(f'"{student.name}-tuned={student.adapter}"' for student in students)
        options = {"enable_lora": "true", "max_lora_rank": 64, "lora_modules": f"[{adapters}]"}
        self.run("stage=serve", "stage.detach=true", *(f"+hardware.engine.args.{k}={v}" for k, v in options.items()))
        try:
            yield
        finally:
            self.run("stage=serve", "stage.action=stop", "stage.server=all")

    def asks(self, student: Student) -> list[str]:
        """The overrides of a command that asks a served student."""
        url = f"http://127.0.0.1:{self.port}/v1"
        return [f"hardware.urls=[{url}]", f"model.served_name={student.name}", "weights=adapter"]

    def figure(self, student: Student) -> Figure:
        """How many held-out pictures a served student is right about."""
        about = [f"answers={student.model}", f"variant={student.variant}", "stage.sides=[after]"]
        self.run("stage=evaluate", *about, *self.asks(student))
        return Figure.of(self.last())

    def self_agreement(self, student: Student) -> str:
        """What ``convert`` says if a model's rows were only compared with a served student's own further answers."""
        again = ["model@teacher.model=tiny-student", f"teacher.model.served_name={student.name}"]
        again.append(f"verify.agreement.samples={AGAIN}")
        self.run("stage=verify", f"answers={student.model}", *again, *self.asks(student))
        return self.run("stage=convert", f"answers={student.model}", "variant=self", DOUBTFUL["gate"], check=False)

    def last(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.folder / "latest/summary.json").read_text())
        return summary


def main(folder: Path) -> None:
    bench = Bench(folder)
    truth, right = bench.answered()
    rng = random.Random(1)
    chosen = set(rng.sample(sorted(right), round(RANDOM_SHARE * len(right))))
    bench.plant("systematic", {id: confused(answer) for id, answer in right.items()}, truth)
    bench.plant("exchanged", exchanged(right, {}, chosen, rng), truth)
    names = {"systematic": f"{' and '.join(CONFUSED)} called red", "exchanged": "60 % exchanged"}
    students = [bench.train(TEACHER, "all"), *(bench.train(model, variant) for model in names for variant in DOUBTFUL)]
    with bench.served(students):
        found = {(student.model, student.variant): (student.rows, bench.figure(student)) for student in students}
        said = bench.self_agreement(students[1])
    rows, clean = found[TEACHER, "all"]
    print("\n| errors | trained on | rows | exact match on 200 held-out pictures | of the gap |")
    print(f"|---|---|---|---|---|\n| none | all rows | {rows} | {clean} | |")
    for model, name in names.items():
        (rows, everything), (kept_rows, kept) = (found[model, variant] for variant in DOUBTFUL)
        print(f"| {name} | all rows | {rows} | {everything} | |")
        share = closed(clean, everything, kept)
        print(f"| {name} | the rows that the gate keeps | {kept_rows} | {kept} | {100 * share:.0f} % |")
    print(f"\nAsked again about its own errors:\n{said}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            main(Path(place))
