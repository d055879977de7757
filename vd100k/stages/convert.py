"""Generated rows -> a trainer's files; bad rows kept aside with reasons, no image on both sides."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from vd100k import formats
from vd100k.config import Convert, Run
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.records import read, write_json, write_lines
from vd100k.summary import Summary, file_facts

Sides = dict[str, list[dict[str, Any]]]  # rows of "train" and of "val"


def plan(run: Run, stage: Convert) -> list[str]:
    return [f"read {stage.rows}", f"write {run.format.name} files into {stage.folder}"]


def run(run: Run, stage: Convert, folder: Path) -> Summary:
    if not stage.rows.exists():
        raise DataError(f"{stage.rows}: no rows there. Make them first: python run.py stage=generate …")
    good: Sides = {"train": [], "val": []}
    rejected = []
    for row in read(stage.rows):
        if reason := _fault(row, run.task.reader):
            rejected.append({"id": row.get("id"), "reason": reason, "row": row})
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
    counts = {name: len(rows) for name, rows in good.items()} | {"rejected": len(rejected)}
    return Summary("convert", counts=counts, inputs=[file_facts(stage.rows)], outputs=written)


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


def _fault(row: dict[str, Any], reader: str) -> str | None:
    """Why a row is not fit to train on, None if it is."""
    if not all(isinstance(row.get(key), str) and row[key] for key in ("id", "image", "question", "answer")):
        return "incomplete"
    if row.get("finish_reason") == "length":
        return "truncated"
    if "<image>" in row["question"] or "<image>" in row["answer"]:
        return "image_tag"  # trainers would count one image too many
    if reader == "json":
        try:
            json.loads(row["answer"])
        except ValueError:
            return "not_json"
    try:
        with Image.open(row["image"]) as image:
            image.verify()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "image_unreadable"
    return None


def _drawn(id: str, seed: int) -> float:
    """A number in [0, 1) that the image's id and the seed alone decide, so all its rows share a side."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{id}".encode()).digest()[:8]) / 2**64


def _table(rejected: list[dict[str, Any]], before: str = "", after: str = "") -> str:
    reasons = Counter(row["reason"] for row in rejected)
    return before + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) + after if reasons else ""
