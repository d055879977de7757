"""The section of a report about a certificate: causes, pictures of both sides, and the rows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from vd100k.pages.blocks import Bars, Block, Card, Gallery, Table, Text
from vd100k.pages.pictures import Picture, data_url

FOLDER = "parity"  # of the pictures, in the run folder
MOST_BYTES = 400_000  # of a picture that a page takes from there
SAME = "as served"


def blocks(path: Path) -> list[Block]:
    """The blocks of a report about the result in ``path``, the parity.json of a run folder."""
    content = json.loads(path.read_text(encoding="utf-8"))
    rows = {row["number"]: row for row in content["rows"]}
    causes = [cause["name"] for row in rows.values() for cause in row["causes"]]
    counted = [(name, causes.count(name)) for name in dict.fromkeys(causes)]
    compared = [
        [
            str(row["number"]),
            ", ".join(row["traits"]),
            _told(row),
            str(row["trained_tokens"]),
            str(row["served_tokens"]),
        ]
        for row in rows.values()
    ]
    cards = [card for one in content.get("pictures", []) if (card := _card(path.parent, one, rows[one["row"]]))]
    return [
        *([Bars("Rows that differ, by cause", counted)] if counted else []),
        *([Gallery("Trained (left) and served (right)", cards, len(rows), str(path))] if cards else []),
        Table("Rows compared", ["row", "chosen as", "result", "tokens trained", "tokens served"], compared),
    ]


def _told(row: dict[str, Any]) -> str:
    return row["not_compared"] or "; ".join(cause["name"] for cause in row["causes"]) or SAME


def _card(folder: Path, one: dict[str, Any], row: dict[str, Any]) -> Card | None:
    content = _content(folder / FOLDER / Path(str(one["path"])).name)
    if content is None:
        return None
    with Image.open(io.BytesIO(content)) as image:
        picture = Picture(data_url("image/webp", content), image.size)
    texts = [Text(cause["name"], cause["text"], "wrong") for cause in row["causes"]] or [Text("result", SAME, "right")]
    texts += [Text("chosen as", ", ".join(row["traits"]))] if row["traits"] else []
    group = "different" if row["causes"] else "equal"
    return Card(f"row {one['row']}, image {one['image']}", [picture], texts, group, rank=0.0 if row["causes"] else 1.0)


def _content(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if len(content) <= MOST_BYTES else None
