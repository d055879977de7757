"""Check that a sample of rows is trained on as it is served, and refuse or warn with the causes if it is not."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.config.stages import Parity
from vd100k.console import say
from vd100k.engines import commands
from vd100k.errors import DataError
from vd100k.io.atomic import write_json
from vd100k.models import model_folder
from vd100k.parity import certificate, pictures, renderer, result
from vd100k.runs.needs import Need, missing, raised
from vd100k.runs.summary import Summary, file_facts
from vd100k.runs.tracker import Tracker

NAME = "parity.json"


def needs(run: Run, stage: Parity) -> Iterator[Need]:
    if _why_not(run):
        return
    for file in result.local_files(result.training(stage)):
        text = f"{file}: the training file does not exist. Make it first: python run.py stage=convert …"
        yield missing(file, text)
    if run.weights == "merged":
        text = f"{run.paths.merged}: the merged model does not exist. Make it first: python run.py stage=export …"
        yield missing(run.paths.merged, text)
    yield Need(raised(partial(model_folder.check, result.base(run), trains=True)))


def makes(run: Run, stage: Parity) -> list[Path]:
    return [stage.file]


def plan(run: Run, stage: Parity) -> list[str]:
    if why := _why_not(run, planned=True):
        return [f"not compared: {why}"]
    training, job = result.training(stage), Path("RUN_FOLDER/encoded/job.json")
    return [
        f"compare {stage.rows} rows of {', '.join(map(str, result.local_files(training)))}, the extreme ones first:",
        str(certificate.train_command(training, job)),
        str(renderer.command(run, run.hardware.port or 0)),
        f"write {stage.file}",
    ]


def run(run: Run, stage: Parity, folder: Path, summary: Summary, tracker: Tracker) -> None:
    tracker.disable()  # there are no figures to follow
    files = result.local_files(result.training(stage))
    if why := _why_not(run) or ("" if files else "the training reads no local .jsonl file"):
        say(f"Whether rows are trained on as they are served was not compared: {why}.")
        return
    summary.inputs = [file_facts(file) for file in files]
    model_folder.ensure(result.base(run), trains=True)
    model_folder.ensure(run)
    model_folder.refuse_code(run, result.training(stage).args)
    wanted = result.fingerprint_of(run, stage, files)
    content = result.earlier(stage.file, wanted)
    if content:
        say(f"reusing the comparison of the same rows with the same options: {stage.file}")
    else:
        began = time.monotonic()
        found = certificate.certify(run, stage, files, folder)
        content = result.content(found, wanted, time.monotonic() - began) | {"pictures": pictures.save(found, folder)}
        stage.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(stage.file, {key: value for key, value in content.items() if key != "pictures"})
    write_json(folder / NAME, content)
    counts = content["counts"]
    summary.counts = {name.replace(" ", "_"): count for name, count in counts.items()}
    summary.outputs = [file_facts(folder / NAME, sum(counts.values()))]
    _judge(stage, content)


def _judge(stage: Parity, content: dict[str, Any]) -> None:
    """Print the result; raise DataError if rows differ and that is refused."""
    counts = content["counts"]
    if not content["causes"]:
        uncompared = counts.get("not compared", 0)
        rest = f"; {uncompared} could not be compared, because {_first_reason(content)}" if uncompared else ""
        say(f"{counts.get('equal', 0)} rows are trained on as they are served{rest}.")
        return
    different, total = counts["different"], sum(counts.values())
    heading = f"{different} of {total} rows are not trained on as they are served:"
    text = "\n".join([heading, *(f"  - {cause}" for cause in content["causes"])])
    if stage.if_different == "refuse":
        raise DataError(f"{text}\nAll details: {stage.file}")
    say(text)


def _first_reason(content: dict[str, Any]) -> str:
    return next(str(row["not_compared"]) for row in content["rows"] if row["not_compared"])


def _why_not(run: Run, planned: bool = False) -> str:
    """Why nothing can be compared; empty if it can. What is installed does not matter to what is only ``planned``."""
    engine, name = run.hardware.engine, run.hardware.name
    if run.hardware.urls is not None or engine is None:
        return f"hardware={name} asks a server elsewhere, which does not show what it makes of a request"
    if engine.renderer is None or engine.steps:
        return f"the engine {engine.name} does not show the tokens and pixels that it makes of a request"
    if planned:
        return ""
    if faults := commands.swift_faults():
        return faults[0]
    if engine.python is None and not importlib.util.find_spec(engine.package):
        return f"{engine.package}, which serves the model, is not installed here: {engine.install}"
    if not importlib.util.find_spec("msgspec"):
        return "msgspec, which reads the pixels of requests, is not installed here: pip install msgspec"
    return ""
