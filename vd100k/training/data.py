"""The local files that a training reads; ms-swift also accepts hub names, and FILE#ROWS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vd100k.io import fingerprint
from vd100k.io.jsonl import read_rows

SUFFIXES = {".jsonl", ".json", ".csv"}  # of the files that ms-swift reads


def local_files(args: dict[str, Any], option: str) -> list[Path]:
    """The local files in an option of ms-swift, ``dataset`` or ``val_dataset``."""
    files = [Path(str(entry).partition("#")[0]) for entry in _as_list(args.get(option))]
    return [file for file in files if file.suffix in SUFFIXES or file.exists()]


def fingerprints(files: list[Path]) -> list[str]:
    """What decides the content of the files and of the images that their rows name."""
    rows = (row for file in files if file.suffix == ".jsonl" for row in read_rows(file))
    images = {image: None for row in rows for image in _as_list(row.get("images")) if isinstance(image, str)}
    return [fingerprint.of_file(file) for file in files] + [fingerprint.of_stat(Path(image)) for image in images]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
