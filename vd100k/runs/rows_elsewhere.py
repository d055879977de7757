"""Where the rows are if they are not where a run looks: in parts that are not joined yet, or under another task."""

from __future__ import annotations

import contextlib
import glob
import json
import re
import shlex
from pathlib import Path
from typing import Any

from vd100k.config.run import Run

SHARD = re.compile(r".*\.shard-(\d+)-of-(\d+)\.jsonl")


def not_joined(run: Run, rows: Path) -> str:
    """What to say if ``rows`` are missing but parts of them exist; empty if there are no parts."""
    parts = sorted(rows.parent.glob(f"{glob.escape(rows.stem)}.shard-*-of-*.jsonl"))
    found = {path: match for path in parts if (match := SHARD.fullmatch(path.name)) and path.stat().st_size}
    if not found:
        return ""
    of = max(int(match[2]) for match in found.values())
    present = {int(match[1]) for match in found.values() if int(match[2]) == of}
    absent = ", ".join(f"{k}/{of}" for k in range(1, of + 1) if k not in present)
    missing = f"No file of shard {absent} is there, so this also asks about its images." if absent else ""
    return "\n".join(
        [
            f"{rows}: there are only the parts that machines made with shard=, which are not joined yet:",
            *(f"  {path}" for path in found),
            "The same command without shard= joins them:",
            f"  {_command(run, list(found))}",
            *filter(None, [missing]),
        ]
    )


def other_tasks(run: Run) -> list[str]:
    """A sentence for each other task under which the same model has answered about the same data set.

    There is none if this task has rows, or if its answers are not interchangeable with those of the other task.
    """
    own, rows = run.paths.data, run.paths.rows
    parts = rows.parent.glob(f"{glob.escape(rows.stem)}.*.jsonl")
    mine = [rows, *(path for path in parts if SHARD.fullmatch(path.name) or path.name.endswith(".preview.jsonl"))]
    if run.task.questions or own.name != run.task.name or any(map(_count, mine)):
        return []
    return [
        f"{_count(path):,} answers of {rows.stem} about this data set exist under task={path.parent.name}: "
        f"add task={path.parent.name} to use them."
        for path in sorted(own.parent.glob(f"*/{glob.escape(rows.name)}"))
        if path.parent != own and _is_alike(run, path) and _count(path)
    ]


def _is_alike(run: Run, rows: Path) -> bool:
    """Whether the rows answer one question about all images, in the form that the task of the run asks for."""
    made = _read(rows.with_name(f"{rows.stem}.settings.json"))
    return made.get("reader") == run.task.reader and not made.get("questions")


def _count(path: Path) -> int:
    """The number of lines; 0 if there is no such file."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one if there is none."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def _command(run: Run, parts: list[Path]) -> str:
    """The command that made one of the parts on this machine, without its shard; otherwise one from the settings."""
    names = {str(path.absolute()) for path in parts}
    for path in sorted(run.output_dir.glob("runs/*/*/summary.json"), reverse=True):
        summary = _read(path)
        if names & set(_written(summary)):
            _, *overrides = summary.get("command") or [""]
            kept = [str(override) for override in overrides if not str(override).startswith(("shard=", "dry_run="))]
            if kept:
                return shlex.join(["python", "run.py", *kept])
    own = run.answers == run.model.name
    return (
        f"python run.py stage=generate images={shlex.quote(run.images or 'FOLDER')} dataset={run.dataset} "
        f"task={run.task.name} model={run.answers} hardware={run.hardware.name if own else 'HARDWARE'}"
    )


def _written(summary: dict[str, Any]) -> list[str]:
    """The absolute paths of the files that a run wrote."""
    outputs = summary.get("outputs")
    facts = [entry for entry in outputs if isinstance(entry, dict)] if isinstance(outputs, list) else []
    return [str(Path(str(entry.get("path"))).absolute()) for entry in facts]
