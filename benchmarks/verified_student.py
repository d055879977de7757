"""Is the student better for it? The demo's student, trained on all rows, on those that the gate keeps, on right ones.

``python -m benchmarks.verified_student [FOLDER]`` (about half an hour on two cores): a model answers about 320
pictures, 30 % wrong in one systematic way, or 60 % with the answers to other pictures. The rows are compared with the
answers of a second model, the demo's teacher; 200 labels find the threshold for 5 %. All trainings take 80 steps, and
each student answers about the same 200 held-out pictures. What is in FOLDER already is not made again.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.verification import CONFUSED, confused, exchanged
from vd100k.io import jsonl

LABELS, MAX_WRONG, STEPS = 200, 0.05, 80
RANDOM_SHARE = 0.6
TEACHER = "tiny-teacher"


class Bench:
    """The commands of the comparison, in one folder, with more ``settings`` for all of them."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder, self._settings = folder, settings

    def run(self, *overrides: str) -> None:
        command = [sys.executable, str(Path(__file__).parents[1] / "run.py"), "experiment=demo", *overrides]
        subprocess.run([*command, *self._settings, "tracking=none", f"output_dir={self.folder}"], check=True)

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
        """Write rows of a model with these answers, and labels of a random sample of them."""
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

    def trained(self, model: str, variant: str, *gate: str) -> dict[str, Any]:
        """The figures of a student that is trained on a model's rows, and the number of the rows."""
        about = [f"answers={model}", f"variant={variant}"]
        place = self.folder / f"{model}-{variant}.json"
        if not place.exists():
            self.run("stage=convert", *about, "stage.split_dataset_ratio=0", *gate)
            kept = self.last()["counts"]["train"]
            self.run("stage=finetune", *about, f"+stage.args.max_steps={STEPS}")
            self.run("stage=export", *about)
            self.run("stage=evaluate", *about, "stage.sides=[after]")
            done = self.last()
            found = {"rows": kept, "share": done["metrics"]["after"]["exact_match"]}
            place.write_text(json.dumps(found | {"interval": done["certainty"]["intervals"]["after"]["exact_match"]}))
        figures: dict[str, Any] = json.loads(place.read_text())
        return figures

    def compared(self, model: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The figures of a student that is trained on all rows of a model, and on those that the gate keeps."""
        second = ["verify.agreement.samples=0", f"verify.agreement.against=[{TEACHER}]"]
        self.run("stage=verify", f"answers={model}", *second)
        everything = self.trained(model, "all", "stage.rules.doubtful=false")
        return everything, self.trained(model, "gate", f"stage.max_wrong={MAX_WRONG}")

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
    clean = bench.trained(TEACHER, "all")
    lines = [
        "| errors | trained on | rows | exact match on 200 held-out pictures | of the gap |",
        "|---|---|---|---|---|",
    ]
    lines.append(f"| none | all rows | {_told(clean)} | |")
    for model, name in (("systematic", f"{' and '.join(CONFUSED)} called red"), ("exchanged", "60 % exchanged")):
        everything, kept = bench.compared(model)
        closed = (kept["share"] - everything["share"]) / (clean["share"] - everything["share"])
        lines.append(f"| {name} | all rows | {_told(everything)} | |")
        lines.append(f"| {name} | the rows that the gate keeps | {_told(kept)} | {100 * closed:.0f} % |")
    print("\n".join(lines))


def _told(figures: dict[str, Any]) -> str:
    low, high = figures["interval"]
    return f"{figures['rows']} | {100 * figures['share']:.1f} % ({100 * low:.0f} to {100 * high:.0f})"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            main(Path(place))
