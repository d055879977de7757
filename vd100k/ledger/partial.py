"""The ledgers of parts of a run: of a preview, of machines that share the run, of slices that drivers make."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path

from vd100k.errors import DataError
from vd100k.io.jsonl import Row
from vd100k.ledger import provenance

# What they add to the name of the rows.
PARTIAL = re.compile(r"\.preview|\.(shard|slice)-\d+-of-\d+")


def slice_path(rows: Path, part: int, parts: int) -> Path:
    """The rows of a slice of the images, which a driver makes: part 1 of 32, for example."""
    return rows.with_name(f"{rows.stem}.slice-{part}-of-{parts}.jsonl")


def found(whole: Path, settings: Row, if_changed: str) -> Iterator[tuple[Path, bool]]:
    """The rows of each part beside those of the ``whole`` that were made with ``settings``, and whether it is a slice.

    Slices of these settings that drivers of another run have set aside are brought back first.

    Raises:
        DataError: a part was made differently, and ``if_changed`` is ``refuse``.
    """
    for path in whole.parent.glob(f"{glob.escape(whole.stem)}.slice-*.settings.json.*"):
        aside = path.with_name(f"{path.name.partition('.settings.json')[0]}.jsonl")
        if not aside.exists():
            provenance.bring_back(aside, settings)
    for path in sorted(whole.parent.glob(f"{glob.escape(whole.stem)}.*.settings.json")):
        name = path.name.removesuffix(".settings.json")
        part = name.removeprefix(whole.stem)
        rows, is_slice = path.with_name(f"{name}.jsonl"), part.startswith(".slice-")
        if not PARTIAL.fullmatch(part) or not (is_slice or (rows.exists() and rows.stat().st_size)):
            continue
        if change := provenance.difference(provenance.read(path), settings):
            if part == ".preview" or if_changed == "set_aside":
                continue  # a preview is repeated until the settings are right
            raise DataError(
                f"{rows} cannot be joined: its rows were made differently ({change}).\nUse the same settings, or "
                f"move {name}.* to another folder: this run then asks about these images again."
            )
        yield rows, is_slice
