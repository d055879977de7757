"""What a run leaves behind about held-out images that are among its training images: a file, pictures, a message."""

from __future__ import annotations

from pathlib import Path

from vd100k.io import jsonl
from vd100k.runs.summary import Summary
from vd100k.similarity.leaks import Leak
from vd100k.similarity.pictures import side_by_side


def record(found: list[Leak], folder: Path, summary: Summary) -> Path:
    """Write the pairs to a file in the run folder, with pictures of them for the report. Return its path."""
    path = folder / "leaked.jsonl"
    jsonl.write(path, (leak._asdict() for leak in found))
    summary.counts["leaked"] = len(found)
    summary.add_copies(side_by_side(((leak.path, leak.training) for leak in found), folder / "copies"))
    return path
