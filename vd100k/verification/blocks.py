"""Verification on pages: how the scores are spread, what each threshold keeps, and the most doubtful rows."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vd100k.io import jsonl
from vd100k.io.jsonl import Row
from vd100k.pages.blocks import Bars, Block, Card, Curve, Gallery, Table, Text
from vd100k.pages.pictures import Album
from vd100k.pages.samples import clip

WORST = 24  # rows in the gallery
OTHERS = 3  # other answers that a card shows
TITLE = "Score of the rows: how far their answers are confirmed"


def of_verdicts(certainty: dict[str, Any], path: Path | None, album: Album) -> list[Block]:
    """The blocks of stage=verify: the scores, and the rows with the lowest ones, worst first."""
    blocks = spread(certainty)
    if path:
        blocks.append(_worst(path, album))
    return blocks


def of_gate(certainty: dict[str, Any]) -> list[Block]:
    """The blocks of a conversion: the scores, and what each threshold keeps; none without verdicts."""
    calibration = certainty.get("calibration")
    if not calibration:
        return spread(certainty)
    points = calibration["curve"]
    shown = [(float(point["kept"]), 100 * point["wrong"] / point["labelled"]) for point in points if point["labelled"]]
    chosen = calibration.get("chosen") or {}
    rows = [
        [
            f"{point['threshold']:.2f}{' (chosen)' if point['threshold'] == chosen.get('threshold') else ''}",
            *(f"{point[name]:,}" for name in ("kept", "labelled", "wrong")),
            f"{100 * point['wrong'] / point['labelled']:.1f} %" if point["labelled"] else "",
            f"{100 * point['at_most']:.1f} %",
        ]
        for point in points
    ]
    head = ["score at least", "rows kept", "labelled", "wrong", "share wrong", "at most (95 %)"]
    curve = Curve("Share of labelled rows that are wrong, by the number of rows kept", shown, " %", noun="rows kept:")
    return [*spread(certainty), curve, Table("What each threshold keeps", head, rows)]


def spread(certainty: dict[str, Any]) -> list[Block]:
    """The number of rows by score; nothing without verdicts."""
    counts = [(str(name), int(count)) for name, count in certainty.get("scores") or []]
    return [Bars(TITLE, counts, ranges=True)] if counts else []


def _worst(path: Path, album: Album) -> Gallery:
    worst = heapq.nsmallest(WORST, _readable(path), key=lambda verdict: verdict["score"])
    rows = path.with_name(f"{path.name.removesuffix('.verdicts.jsonl')}.jsonl")
    cards = []
    if rows.exists():
        about = _first_rows(rows, {(verdict["id"], verdict.get("question")) for verdict in worst})
        cards = [
            _card(verdict, about.get((verdict["id"], verdict.get("question"))) or Row(), album) for verdict in worst
        ]
    return Gallery("Most doubtful rows, worst first", cards, sum(1 for _ in _readable(path)), str(path))


def _readable(path: Path) -> Iterator[Row]:
    rows = (row for _, row in jsonl.read(path) if isinstance(row, dict))
    return (row for row in rows if isinstance(row.get("score"), int | float) and isinstance(row.get("id"), str))


def _first_rows(path: Path, wanted: set[tuple[str, Any]]) -> dict[tuple[str, Any], Row]:
    """The first row with each of some images and questions."""
    found: dict[tuple[str, Any], Row] = {}
    for _, row in jsonl.read(path):
        if isinstance(row, dict) and isinstance(row.get("id"), str) and isinstance(row.get("question"), str):
            key = row["id"], row["question"]
            if key in wanted:
                found.setdefault(key, row)
    return found


def _card(verdict: Row, row: Row, album: Album) -> Card:
    texts = [
        Text("answer", clip(row.get("answer")), "wrong"),
        Text(f"score {verdict['score']:.2f}", clip(verdict.get("reason"))),
        *(Text(str(one.get("by")), clip(one.get("answer"))) for one in (verdict.get("samples") or [])[:OTHERS]),
    ]
    return Card(
        str(verdict["id"]), album.pictures(row, [row]), texts, f"score {verdict['score']:.2f}", verdict["score"]
    )
