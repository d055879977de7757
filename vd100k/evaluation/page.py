"""The section of an evaluation in a report: its figures, and the answers of all sides beside the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vd100k.evaluation.boxes import scored
from vd100k.evaluation.certainty import share, told, verdict
from vd100k.evaluation.metrics import TITLES, Score
from vd100k.pages.blocks import Block, Card, Gallery, Pairs, Table, Text
from vd100k.pages.pictures import Album
from vd100k.pages.samples import clip, sample, spread

Summary = dict[str, Any]

WORST = 24  # answers, the worst first
OTHERS = 12  # and some of the rest
HEADLINE = 4  # pictures below the result


def blocks(summary: Summary, path: Path | None, album: Album) -> list[Block]:
    """The table of all figures with their intervals, and the answers in the file ``path``, the worst first."""
    sides = _sides(summary)
    names = list(dict.fromkeys(key for scores in sides.values() for key in scores))
    sure = summary.get("certainty") or {}
    intervals, changes = sure.get("intervals", {}), sure.get("changes", {})
    table = []
    for name in names:
        cells = [share(scores[name], intervals.get(side, {}).get(name)) for side, scores in sides.items()]
        change = [told(changes[name]), verdict(changes[name])] if name in changes else []
        table.append([TITLES.get(name, name), *cells, *change])
    head = ["", *sides, *(["change", ""] if changes else [])]
    made: list[Block] = [Table(f"Held-out images{', with 95 % intervals' if intervals else ''}", head, table)]
    if path and sides:
        parsed, last = sample(path), list(sides)[-1]
        judged = _judged(parsed.rows, sides)
        judged.sort(key=lambda pair: pair[1][last].field_accuracy)
        chosen = [*judged[:WORST], *spread(judged[WORST:], OTHERS)]
        title = f"{' and '.join(sides).capitalize()}, worst first"
        made.append(Gallery(title, _compared(chosen, album), parsed.total, str(path)))
    return made


def headline(summary: Summary, path: Path, album: Album) -> list[Card]:
    """The first pictures with the answers of all sides; none if no side answered."""
    sides = _sides(summary)
    return _compared(_judged(sample(path).rows[:HEADLINE], sides), album) if sides else []


def measured(summary: Summary) -> Pairs | None:
    """The figures of all sides as bars; None if there are none."""
    sides = _sides(summary)
    if not sides:
        return None
    known = [name for name in TITLES if all(name in scores for scores in sides.values())]
    shares = [(TITLES[name], [scores[name] for scores in sides.values()]) for name in known]
    intervals = (summary.get("certainty") or {}).get("intervals", {})
    bounds = [[intervals.get(side, {}).get(name) for side in sides] for name in known]
    return Pairs(list(sides), shares, bounds)


Judged = list[tuple[Summary, dict[str, Score]]]


def _judged(rows: list[Summary], sides: dict[str, Any]) -> Judged:
    """The labelled rows, each with the score of each side."""
    return [(row, {side: scored(row, side) for side in sides}) for row in rows if "label" in row]


def _compared(judged: Judged, album: Album) -> list[Card]:
    cards = []
    for row, scores in judged:
        texts = [Text("label", clip(row["label"]))]
        for side, given in scores.items():
            texts.append(Text(side, clip(row.get(side)), "right" if given.exact_match else "wrong"))
        last = list(scores.values())[-1]
        group = "exact" if last.exact_match else "partly right" if last.field_accuracy else "wrong"
        pictures = album.pictures(row, [_answered(row, list(scores)[-1])])
        cards.append(Card(str(row["id"]), pictures, texts, group, last.field_accuracy))
    return cards


def _answered(row: Summary, side: str) -> Summary:
    """The answer of a side, and its boxes if the evaluation has read them."""
    found = row.get("boxes")
    return {"answer": row.get(side)} | ({"boxes": found.get(side)} if isinstance(found, dict) else {})


def _sides(summary: Summary) -> dict[str, Any]:
    return {name: scores for name, scores in summary["metrics"].items() if isinstance(scores, dict)}
