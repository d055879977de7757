"""Reads the files that W&B writes for offline runs.

A ``.wandb`` file is a header of seven bytes and a log in LevelDB's format
(https://github.com/google/leveldb/blob/main/doc/log_format.md) with the records of ``wandb.proto``.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from wandb.proto import wandb_internal_pb2

BLOCK = 32_768
HEADER = struct.Struct("<IHB")  # checksum, length, kind
WHOLE, LAST = 1, 4
PATIENCE_S = 10.0


class Artifact(NamedTuple):
    name: str
    how: str  # used or made
    kind: str
    digest: str
    files: list[str]


@dataclass
class Kept:
    """The content of the file of one W&B run."""

    id: str
    group: str
    job_type: str
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    artifacts: list[Artifact]
    exit_code: int | None
    content: bytes


def read(folder: Path) -> list[Kept]:
    """All W&B runs below ``folder`` in the order of their start; waits for their ends, which W&B may write late."""
    paths = sorted(folder.glob("**/offline-run-*/run-*.wandb"))
    until = time.monotonic() + PATIENCE_S
    while True:
        found = [_read(path) for path in paths]
        if all(kept.exit_code is not None for kept in found) or time.monotonic() > until:
            return found
        time.sleep(0.1)


def _read(path: Path) -> Kept:
    kept = Kept("", "", "", {}, [], {}, [], None, path.read_bytes())
    for record in _records(kept.content):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            kept.id, kept.group, kept.job_type = record.run.run_id, record.run.run_group, record.run.job_type
            kept.config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            items = record.history.item
            kept.history.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
        elif kind == "summary":
            for item in record.summary.update:
                kept.summary["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        elif kind == "artifact":
            one = record.artifact
            how, files = "used" if one.use_after_commit else "made", [entry.path for entry in one.manifest.contents]
            kept.artifacts.append(Artifact(one.name, how, one.type, one.digest, files))
        elif kind == "exit":
            kept.exit_code = record.exit.exit_code
    return kept


def _records(content: bytes) -> Iterator[Any]:
    at, whole = 7, b""
    while at + HEADER.size <= len(content):
        if BLOCK - at % BLOCK < HEADER.size:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = HEADER.unpack_from(content, at)
        at += HEADER.size
        whole += content[at : at + size]
        at += size
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record
