"""Generated rows -> a trainer's files; bad rows kept aside with reasons, no image on both sides."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from vd100k import formats
from vd100k.config import Convert, Run
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.images import ImageError, upright
from vd100k.records import read, write_json, write_lines
from vd100k.summary import Summary, file_facts

Sides = dict[str, list[dict[str, Any]]]  # rows of "train" and of "val"


class Unfit(ValueError):
    """This one row cannot be trained on; the message is the reason in a word."""


def plan(run: Run, stage: Convert) -> list[str]:
    return [f"read {stage.rows}", f"write {run.format.name} files into {stage.folder}"]


def run(run: Run, stage: Convert, folder: Path, summary: Summary) -> None:
    if not stage.rows.exists():
        raise DataError(f"{stage.rows}: no rows there. Make them first: python run.py stage=generate …")
    good: Sides = {"train": [], "val": []}
    rejected = []
    for row in read(stage.rows):
        try:
            _check(row, run.task.reader)
            row["image"] = str(upright(Path(row["image"]), stage.folder / "upright"))
        except Unfit as error:
            rejected.append({"id": row.get("id"), "reason": str(error), "row": row})
        except ImageError:
            rejected.append({"id": row.get("id"), "reason": "image_unreadable", "row": row})
        else:
            side = "val" if _drawn(row["id"], stage.data_seed) < stage.split_dataset_ratio else "train"
            good[side].append(row)
    if not good["train"]:
        raise DataError(f"{stage.rows}: no row is fit to train on ({_table(rejected)}).")
    stage.folder.mkdir(parents=True, exist_ok=True)
    written = (_swift if run.format.name == "swift" else _sharegpt)(run, stage.folder, good)
    write_lines(stage.folder / "rejected.jsonl", rejected)
    say(
        f"{len(good['train'])} rows to train on, {len(good['val'])} for the evaluation loss, "
        f"{len(rejected)} rejected{_table(rejected, ' (', ')')}: {stage.folder}"
    )
    summary.counts = {name: len(rows) for name, rows in good.items()} | {"rejected": len(rejected)}
    summary.inputs = [file_facts(stage.rows)]
    summary.outputs = written


def _swift(run: Run, folder: Path, good: Sides) -> list[dict[str, Any]]:
    written = []
    for side, rows in good.items():
        path = folder / f"{side}.jsonl"
        write_lines(path, [formats.swift(row, run.task.system_prompt) for row in rows])
        written.append(file_facts(path, len(rows)))
    return written


def _sharegpt(run: Run, folder: Path, good: Sides) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    info: dict[str, Any] = {}
    for side, rows in good.items():
        path = folder / f"{side}.json"
        write_json(path, [formats.sharegpt(row, run.task.system_prompt) for row in rows])
        info |= formats.dataset_info(f"{run.dataset}_{run.task.name}_{side}", path.name)
        written.append(file_facts(path, len(rows)))
    write_json(folder / "dataset_info.json", info)
    return written


def _check(row: dict[str, Any], reader: str) -> None:
    """Raise Unfit, with the reason in a word, where a row is not fit to train on."""
    if not all(isinstance(row.get(key), str) and row[key] for key in ("id", "image", "question", "answer")):
        raise Unfit("incomplete")
    if row.get("finish_reason") == "length":
        raise Unfit("truncated")
    if "<image>" in row["question"] or "<image>" in row["answer"]:
        raise Unfit("image_tag")  # trainers would count one image too many
    if reader == "json":
        try:
            json.loads(row["answer"])
        except ValueError:
            raise Unfit("not_json") from None


def _drawn(id: str, seed: int) -> float:
    """A number in [0, 1) that the image's id and the seed alone decide, so all its rows share a side."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{id}".encode()).digest()[:8]) / 2**64


def _table(rejected: list[dict[str, Any]], before: str = "", after: str = "") -> str:
    reasons = Counter(row["reason"] for row in rejected)
    return before + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) + after if reasons else ""
