"""A data set's products: files made from several models' answers, as far as those are there."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.config.stages import Convert, Product
from vd100k.conversion import formats, joins
from vd100k.conversion.formats import Layout
from vd100k.conversion.run import Job, Outcome, convert
from vd100k.conversion.token_lengths import TokenLengths
from vd100k.conversion.writers import JsonWriter
from vd100k.io import jsonl
from vd100k.io.atomic import write_json
from vd100k.io.jsonl import Entry

LAYOUTS: dict[str, Layout] = {"rows": formats.rows, "sft": formats.published, "dpo": formats.published}


def make(run: Run, stage: Convert, lengths: TokenLengths) -> dict[str, Outcome]:
    """Every product whose answer sets are there, by file name, and the entries that register them."""
    made: dict[str, Outcome] = {}
    info: dict[str, Any] = {}
    for product in stage.products:
        if not all(path.exists() for path in _inputs(run, stage, product).values()):
            continue
        made[product.file] = convert(run, stage, _job(run, stage, product), lengths)
        if product.layout != "rows":
            name, system = Path(product.file).stem, bool(run.task.system_prompt)
            info |= formats.dataset_info(name, product.file, "image", system, product.layout == "dpo")
    write_json(stage.folder / "dataset_info.json", info)
    return made


def missing(run: Run, stage: Convert) -> list[str]:
    """In lines, the commands that make what is not there yet, questions first, and what waits for each."""
    waiting: dict[str, list[str]] = {}
    for kind in ("asker", "answers", "rejected"):
        for product in stage.products:
            path = _inputs(run, stage, product).get(kind)
            if path is not None and not path.exists():
                waiting.setdefault(_command(run, stage, product, kind), []).append(product.file)
    lines = []
    for command, files in waiting.items():
        lines += ["", f"for {', '.join(dict.fromkeys(files))}:", f"  {command}"]
    return lines


def generated_from(rows: Path) -> Path | None:
    """The folder whose images generated rows are about: an image is that folder and its id."""
    for _, row in jsonl.read(rows):
        if isinstance(row, dict) and str(row.get("image")).endswith(f"/{row.get('id')}"):
            return Path(row["image"].removesuffix(f"/{row['id']}"))
    return None


def _job(run: Run, stage: Convert, product: Product) -> Job:
    inputs = _inputs(run, stage, product)
    answers = inputs["answers"]
    lines: Callable[[], Iterable[Entry]] = partial(jsonl.read, answers)
    if product.sorted:
        lines = partial(joins.in_order, answers, inputs["asker"])
    elif product.rejected:
        lines = partial(joins.pairs, lines, inputs["rejected"])
    path = stage.folder / product.file
    writer = partial(JsonWriter, path, array=path.suffix == ".json")
    folder = run.image_folder or generated_from(answers) or answers.parent
    return Job(lines, (folder,), LAYOUTS[product.layout], {"train": writer}, path.with_suffix(".rejected.jsonl"))


def _inputs(run: Run, stage: Convert, product: Product) -> dict[str, Path]:
    """The answer sets, and the questions that give the order, that a product is made of."""
    data = run.output_dir / "data" / product.dataset
    inputs = {"answers": data / product.task / f"{stage.models[product.answers].model}.jsonl"}
    if product.rejected:
        inputs["rejected"] = data / product.task / f"{stage.models[product.rejected].model}.jsonl"
    if product.asker:
        inputs["asker"] = data / "question" / f"{stage.models[product.asker].model}.jsonl"
    return inputs


def _command(run: Run, stage: Convert, product: Product, kind: str) -> str:
    """What makes one of a product's inputs."""
    role = stage.models[str(getattr(product, kind))]
    task = "question" if kind == "asker" else product.task
    asker = f" asker={stage.models[product.asker].model}" if product.asker and kind != "asker" else ""
    return (
        f"python run.py experiment=vd100k stage=generate dataset={product.dataset} task={task}{asker} "
        f"hardware={role.hardware} model={role.model} images={shlex.quote(run.images) if run.images else 'FOLDER'}"
    )
