"""The certificate: a sample of rows, encoded by both sides and compared, and why they differ."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from vd100k.config.run import Run
from vd100k.config.stages import Finetune, Parity
from vd100k.console import waiting
from vd100k.engines import commands
from vd100k.engines.commands import Command
from vd100k.engines.process import Child
from vd100k.errors import TrainingError
from vd100k.images.encode import ImageError
from vd100k.images.resizing import SizeRule
from vd100k.io import jsonl
from vd100k.io.jsonl import Row
from vd100k.parity import pixels, renderer, sample, trainer
from vd100k.parity.causes import Cause, causes
from vd100k.parity.chats import NotARequest, chat, with_each_answer
from vd100k.parity.renderer import Refused, Renderer
from vd100k.parity.sample import Chosen
from vd100k.parity.views import Case, Served, Trained

POLL_S = 0.1


@dataclass(frozen=True)
class Judged:
    """A row of the sample: why it is trained on as something else than it is served, or why it was not compared."""

    number: int
    traits: list[str]
    causes: list[Cause]
    not_compared: str = ""
    trained_tokens: int = 0
    served_tokens: int = 0
    grids: list[list[pixels.Grid]] = field(default_factory=list)  # trained, served

    @property
    def result(self) -> str:
        return "not compared" if self.not_compared else "different" if self.causes else "equal"


@dataclass(frozen=True)
class Certificate:
    """The result for all rows; ``pictures`` are the images of some rows as both sides see them."""

    rows: list[Judged]
    pictures: dict[int, list[tuple[pixels.Pixels, pixels.Pixels]]]

    @property
    def counts(self) -> Counter[str]:
        """The number of rows by result."""
        return Counter(row.result for row in self.rows)

    @property
    def causes(self) -> dict[str, list[tuple[Judged, Cause]]]:
        """The rows that have a cause, by its name; the most frequent first."""
        found: dict[str, list[tuple[Judged, Cause]]] = {}
        for row in self.rows:
            for cause in row.causes:
                found.setdefault(cause.name, []).append((row, cause))
        return dict(sorted(found.items(), key=lambda pair: -len(pair[1])))

    def sentences(self) -> list[str]:
        """The result in words: each cause with its first row and its remedy."""
        total = len(self.rows)
        lines = []
        for rows in self.causes.values():
            row, cause = rows[0]
            lines.append(f"{cause.text} ({len(rows)} of {total} rows, the first is row {row.number}). {cause.remedy}")
        return lines

    def content(self) -> Row:
        """The content of parity.json."""
        rows = [{"result": row.result, **asdict(row)} for row in self.rows]
        return {"result": self.result, "counts": dict(self.counts), "causes": self.sentences(), "rows": rows}

    @property
    def result(self) -> str:
        counts = self.counts
        return next((name for name in ("different", "equal") if counts[name]), "not compared")


def train_command(stage: Finetune, job: Path | str) -> Command:
    """The program that encodes rows as the training command would, in its environment."""
    trains = commands.train(stage, Path(job).parent)
    return Command([sys.executable, "-m", trainer.__name__, str(job)], trains.env, trains.inherits)


def certify(run: Run, stage: Parity, files: list[Path], folder: Path) -> Certificate:
    """Compare a sample of the rows in ``files``; both programs write their logs to ``folder``.

    Raises:
        DataError: a file has a line that is not a row.
        ServerError: the renderer failed.
        TrainingError: ms-swift failed.
    """
    rows = chain.from_iterable(map(jsonl.read_rows, files))
    chosen = sample.choose(rows, sum(map(_lines, files)), stage.rows, run.model.max_pixels, run.seed)
    scratch = folder / "encoded"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        job = write_job(run, stage, chosen, scratch)
        child, renders = renderer.start(run, folder / "renderer.log")
        assert stage.train is not None
        with child, Child(train_command(stage.train, job), folder / "trainer.log") as trains:
            with waiting(f"encoding {len(chosen)} rows as ms-swift trains on them and as {run.served_name} gets them"):
                while trains.exit_code() is None:
                    trains.wait(POLL_S)
                if trains.exit_code():
                    raise TrainingError(trains.last_words("ms-swift's template"))
                renders.wait(run.hardware.start_timeout_s)
            return compare(run, chosen, scratch, renders)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def write_job(run: Run, stage: Parity, chosen: list[Chosen], scratch: Path) -> Path:
    """Write the rows and the job of the trainer's program; return the path of the job."""
    assert stage.train is not None
    rows, job = scratch / "rows.jsonl", scratch / "job.json"
    jsonl.write(rows, (one.row for one in chosen))
    local = {"dataset": str(rows), "val_dataset": None}  # they are not loaded, but must exist
    train = stage.train.model_copy(update={"args": {**stage.train.args, **local}})
    argv = commands.train(train, scratch / "checkpoints").argv
    words = argv[argv.index("swift.cli.main") + 1 :]
    content = {"argv": words, "rows": str(rows), "out": str(scratch), "served": run.model_path, "base": run.model.path}
    job.write_text(json.dumps(content), encoding="utf-8")
    return job


@dataclass(frozen=True)
class _Encoded:
    """The result of the trainer's program, in ``folder``."""

    folder: Path
    content: dict[str, Any]

    def row(self, k: int) -> list[Trained]:
        """The row with each of its answers: two if it is a preference pair."""
        return [self._trained(k, found) for found in self.content["rows"][k]]

    def _trained(self, k: int, found: dict[str, Any]) -> Trained:
        if "error" in found:
            return Trained(error=found["error"])
        images: list[pixels.Pixels] = []
        if found["images"]:
            with np.load(self.folder / f"{k}.npz") as file:
                images = [file[name] for name in file.files]
        return Trained(found["ids"], found["labels"], [_as_grid(grid) for grid in found["grids"]], images)


def _as_grid(numbers: list[int]) -> pixels.Grid:
    frames, rows, columns = numbers
    return frames, rows, columns


PICTURED = 4  # rows whose images the report shows


def compare(run: Run, chosen: list[Chosen], scratch: Path, renders: Renderer) -> Certificate:
    """The certificate of these rows, which the trainer's program has encoded into ``scratch``."""
    encoded = _Encoded(scratch, json.loads((scratch / trainer.RESULT).read_text(encoding="utf-8")))
    judged: list[Judged] = []
    pictures: dict[int, list[tuple[pixels.Pixels, pixels.Pixels]]] = {}
    for k, one in enumerate(chosen):
        views = encoded.row(k)
        try:
            served = _served(run, one.row, renders, encoded.content)
        except NotARequest as error:
            judged.append(Judged(one.number, one.traits, [], str(error)))
            continue
        cases = [_case(one.row, *both, renders, encoded.content) for both in zip(views, served, strict=False)]
        found = list({cause.name: cause for case in reversed(cases) for cause in causes(case)}.values())
        first = cases[0]
        tokens = len(first.trained.ids), len(first.served.whole or (first.served.prompts or [[]])[-1])
        grids = [first.trained.grids, first.served.grids]
        judged.append(Judged(one.number, one.traits, found, "", *tokens, grids))
        pairs = list(zip(first.trained.images, first.served.images, strict=False))
        if pairs and (found or len(pictures) < PICTURED):
            pictures[one.number] = pairs
    different = [row.number for row in judged if row.causes]
    shown = sorted(pictures, key=lambda number: number not in different)[:PICTURED]
    return Certificate(judged, {number: pictures[number] for number in shown})


def _served(run: Run, row: Row, renders: Renderer, facts: dict[str, Any]) -> list[Served]:
    """The row as the server encodes the requests of our clients, and of a preference pair with its worse answer too.

    Raises:
        NotARequest: no request of our clients corresponds to the row.
    """
    try:
        asked, *others = (chat(one, run.task.system_prompt, SizeRule.of(run.model)) for one in with_each_answer(row))
    except ImageError as error:
        return [Served(error=str(error))]
    if not asked.prompts:
        raise NotARequest("the row has no answer")
    try:
        *earlier, last = asked.prompts
        ids, grids, patches = renders.render(last)
        prompts = [*(renders.tokens(prompt) for prompt in earlier), ids]
        wholes = [None if one.whole is None else renders.whole(one.whole) for one in (asked, *others)]
    except Refused as error:
        return [Served(error=str(error))]
    images: list[pixels.Pixels] = []
    if "patch" in facts and len(patches) == len(grids):
        sides = {name: facts[name] for name in ("patch", "merge", "frames")}
        with contextlib.suppress(ValueError):  # patches of another size: the tokens differ as well
            images = [pixels.from_patches(flat, grid, **sides) for flat, grid in zip(patches, grids, strict=True)]
    first = Served(prompts, wholes[0], grids, images)
    return [first, *(replace(first, whole=whole, images=[]) for whole in wholes[1:])]


def _case(row: Row, trained: Trained, served: Served, renders: Renderer, facts: dict[str, Any]) -> Case:
    files = [sample.image_facts(path) for path in sample.named_images(row)]
    patch, merge = facts.get("patch", 1), facts.get("merge", 1)
    return Case(row, trained, served, renders.text, facts["stops"], files, patch, patch * merge, facts.get("pad"))
