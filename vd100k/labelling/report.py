"""The section of stage=label in the report: how many answers are wrong, and the answers beside their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vd100k.evaluation.certainty import share
from vd100k.evaluation.intervals import of_mean
from vd100k.pages.blocks import Block, Card, Gallery, Table, Text
from vd100k.pages.pictures import Album
from vd100k.pages.samples import clip, sample

WORDS = {False: "wrong", None: "skipped", True: "right"}  # of a label, in the order of the gallery
SHOWN = 24  # cards of each kind


def blocks(counts: dict[str, Any], path: Path | None, album: Album) -> list[Block]:
    """The blocks of a run with these counts, whose labelled rows are in the file."""
    if not path:
        return []
    parsed = sample(path)
    cards = [
        _card(row, word, rank, album)
        for rank, (right, word) in enumerate(WORDS.items())
        for row in [row for row in parsed.rows if row.get("right") is right][:SHOWN]
    ]
    return [_table(counts), Gallery("Labelled answers, wrong ones first", cards, parsed.total, str(path))]


def _table(counts: dict[str, Any]) -> Table:
    right, wrong = counts.get("right", 0), counts.get("wrong", 0)
    judged = right + wrong
    shown = share(wrong / judged, of_mean([1.0] * wrong + [0.0] * right)) if judged else ""
    rows = [
        ["right", f"{right:,}", ""],
        ["wrong", f"{wrong:,}", shown],
        ["skipped", f"{counts.get('skipped', 0):,}", ""],
    ]
    return Table("Labels, with the 95 % interval of the share of wrong answers", ["", "answers", ""], rows)


def _card(row: dict[str, Any], word: str, rank: int, album: Album) -> Card:
    colour = word if word in ("right", "wrong") else ""
    texts = [Text(f"answer, {word}", clip(row.get("answer")), colour)]
    if row.get("corrected"):
        texts.append(Text("corrected", clip(row["corrected"]), "right"))
    return Card(str(row.get("id")), album.pictures(row, [row]), texts, word, rank)
