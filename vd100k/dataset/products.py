"""The products of a data set: files made from the answers of several models."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.config.stages import Convert, Product
from vd100k.conversion import formats
from vd100k.conversion.blocks import Recipe
from vd100k.conversion.formats import Layout
from vd100k.conversion.run import Job, Outcome, convert
from vd100k.conversion.token_lengths import TokenLengths
from vd100k.images.groups import SEPARATOR, names
from vd100k.images.paths import folder_of
from vd100k.io import jsonl
from vd100k.io.atomic import write_json
from vd100k.io.writers import JsonWriter
from vd100k.sources import blocks, joins

LAYOUTS: dict[str, Layout] = {"rows": formats.rows, "sft": formats.published, "dpo": formats.published}


def make(run: Run, stage: Convert, token_lengths: TokenLengths) -> dict[str, Outcome]:
    """Make every product whose inputs exist, and ``dataset_info.json``; the outcomes by file name."""
    made: dict[str, Outcome] = {}
    info: dict[str, Any] = {}
    for product in stage.products:
        if not all(path.exists() for path in _inputs(run, stage, product).values()):
            continue
        made[product.file] = convert(_job(run, stage, product, token_lengths))
        if product.layout != "rows":
            name, system = Path(product.file).stem, bool(run.task.system_prompt)
            info |= formats.dataset_info(name, product.file, "image", system, product.layout == "dpo")
    write_json(stage.folder / "dataset_info.json", info)
    return made


def missing(run: Run, stage: Convert) -> list[str]:
    """The commands that make the missing inputs, questions first, each below the products that need it."""
    needed_by: dict[str, list[str]] = {}
    for kind in ("asker", "answers", "rejected"):
        for product in stage.products:
            path = _inputs(run, stage, product).get(kind)
            if path is not None and not path.exists():
                needed_by.setdefault(_command(run, stage, product, kind), []).append(product.file)
    lines = []
    for command, files in needed_by.items():
        lines += ["", f"for {', '.join(dict.fromkeys(files))}:", f"  {command}"]
    return lines


def generated_from(rows: Path) -> str | None:
    """The image folder of generated rows, or None; the path of an image is that folder and the row's id."""
    for _, row in jsonl.read(rows):
        if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not (paths := names(row)):
            continue
        ids = [row["id"]] if len(paths) == 1 else row["id"].split(SEPARATOR)
        if paths[0].endswith(f"/{ids[0]}") and len(ids) == len(paths):
            return paths[0].removesuffix(f"/{ids[0]}")
    return None


def _job(run: Run, stage: Convert, product: Product, token_lengths: TokenLengths) -> Job:
    inputs = _inputs(run, stage, product)
    answers = inputs["answers"]
    read = partial(blocks.of_file, answers)
    if product.sorted:
        read = partial(blocks.of_entries, joins.in_order, answers, inputs["asker"])
    elif product.rejected:
        read = partial(blocks.of_entries, joins.pairs, partial(jsonl.read, answers), inputs["rejected"])
    path = stage.folder / product.file
    writer = partial(JsonWriter, path, array=path.suffix == ".json")
    folder = folder_of("", run.image_folder) if run.image_folder else generated_from(answers) or str(answers.parent)
    recipe = Recipe(run, stage, token_lengths, (folder,), LAYOUTS[product.layout], ("train",))
    return Job(read, recipe, {"train": writer}, path.with_suffix(".rejected.jsonl"))


def _inputs(run: Run, stage: Convert, product: Product) -> dict[str, Path]:
    """The files that a product is made from: answer sets, and the questions that its rows are sorted by."""
    data = run.output_dir / "data" / product.dataset
    inputs = {"answers": data / product.task / f"{stage.models[product.answers].model}.jsonl"}
    if product.rejected:
        inputs["rejected"] = data / product.task / f"{stage.models[product.rejected].model}.jsonl"
    if product.asker:
        inputs["asker"] = data / "question" / f"{stage.models[product.asker].model}.jsonl"
    return inputs


def _command(run: Run, stage: Convert, product: Product, kind: str) -> str:
    """The command that makes one of a product's inputs."""
    role = stage.models[str(getattr(product, kind))]
    task = "question" if kind == "asker" else product.task
    asker = f" asker={stage.models[product.asker].model}" if product.asker and kind != "asker" else ""
    return (
        f"python run.py experiment=vd100k stage=generate dataset={product.dataset} task={task}{asker} "
        f"hardware={role.hardware} model={role.model} images={shlex.quote(run.images) if run.images else 'FOLDER'}"
    )
