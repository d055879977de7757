"""The section of an evaluation in a report: its figures, those of its parts, and the answers beside the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vd100k.boxes.box import from_row
from vd100k.evaluation import metrics
from vd100k.evaluation.certainty import brief, share, told, verdict
from vd100k.evaluation.metrics import ALWAYS, OF_BOXES, Case, Scores
from vd100k.evaluation.sides import figures
from vd100k.evaluation.slices import size_note
from vd100k.pages.blocks import Block, Card, Gallery, Measure, Measures, Pairs, Table, Text
from vd100k.pages.pictures import Album
from vd100k.pages.samples import clip, sample, spread

Summary = dict[str, Any]

FLIPS = 12  # answers that became worse, and as many that became better
WORST = 24  # answers, those that became worse and then the worst ones
OTHERS = 12  # those that became better, and some of the rest
HEADLINE = 4  # pictures below the result
GRADED = 0.01  # a share below this is none


def blocks(summary: Summary, paths: list[Path], album: Album) -> list[Block]:
    """The figures with their intervals, those of tasks, fields and slices, and the answers in the files ``paths``."""
    sides, sure = figures(summary["metrics"]), summary.get("certainty") or {}
    made: list[Block] = [_table(sides, sure), *_parts(sure)]
    title, other = f"{' and '.join(sides)}, worst first", {_task(path): path for path in paths}
    if "" in other and sides:
        made.append(_gallery(title.capitalize(), other[""], sides, _main(summary), album))
    for row in sure.get("retention", []):
        if (name := row.get("task")) in other and sides:
            made.append(_gallery(f"{name}: {title}", other[name], sides, row["main"], album))
    return made


def _task(path: Path) -> str:
    """The other task whose answers are in a file (``also/TASK/MODEL.compared.jsonl``); empty for that of the run."""
    return path.parent.name if path.parent.parent.name == "also" else ""


def _gallery(title: str, path: Path, sides: dict[str, Any], main: str, album: Album) -> Gallery:
    """The worst answers, and those that became worse or better."""
    parsed = sample(path)
    return Gallery(title, _compared(_chosen(_judged(parsed.rows, sides), main), main, album), parsed.total, str(path))


def headline(summary: Summary, path: Path, album: Album) -> list[Card]:
    """The first pictures with the answers of all sides; none if no side answered."""
    sides = figures(summary["metrics"])
    return _compared(_judged(sample(path).rows[:HEADLINE], sides), _main(summary), album) if sides else []


def measured(summary: Summary) -> Pairs | None:
    """The figures of all sides as bars; None if there are none."""
    sides, sure = figures(summary["metrics"]), summary.get("certainty") or {}
    if not sides:
        return None
    known = [name for name in sure.get("shown", OF_BOXES) if all(name in scores for scores in sides.values())]
    shares = [(metrics.title(name), [scores[name] for scores in sides.values()]) for name in known]
    bounds = [[sure.get("intervals", {}).get(side, {}).get(name) for side in sides] for name in known]
    return Pairs(list(sides), shares, bounds)


def _table(sides: dict[str, Any], sure: Summary) -> Table:
    """All figures that the task shows, with their intervals and changes."""
    intervals, changes = sure.get("intervals", {}), sure.get("changes", {})
    names = list(sure.get("shown") or dict.fromkeys(key for scores in sides.values() for key in scores))
    table = []
    for name in names:
        cells = [share(scores[name], intervals.get(side, {}).get(name)) for side, scores in sides.items()]
        change = [told(changes[name]), verdict(changes[name])] if name in changes else []
        table.append([metrics.title(name), *cells, *change])
    head = ["", *sides, *(["change", ""] if changes else [])]
    return Table(f"Held-out images{', with 95 % intervals' if intervals else ''}", head, table)


def _parts(sure: Summary) -> list[Block]:
    """The tables of other tasks, of fields and of slices, as far as there are any."""
    main = metrics.title(sure.get("main", "exact_match"))
    tables = {
        "What else the model can do: the same models on other tasks": sure.get("retention", []),
        "Correct values by field, worst first; numbers and dates compared as such": sure.get("fields", []),
        **{f"By {column}: {main}, worst first": rows for column, rows in sure.get("slices", {}).items()},
    }
    return [Measures(title, [_measure(row) for row in rows]) for title, rows in tables.items()]


def _measure(row: Summary) -> Measure:
    bars = [(side, value, row["intervals"][side]) for side, value in row["figures"].items()]
    change = row["change"]
    said = row.get("verdict") or (brief(change) if change else "")
    tone = {"better": "right", "worse": "wrong"}.get(change["verdict"], "") if change else ""
    return Measure(row["name"], size_note(row), bars, said, tone)


Judged = list[tuple[Summary, dict[str, Scores]]]


def _judged(rows: list[Summary], sides: dict[str, Any]) -> Judged:
    """The labelled rows, each with the score of each side."""
    return [(row, {side: _scored(row, side) for side in sides}) for row in rows if "label" in row]


def _scored(row: Summary, side: str) -> Scores:
    """The recorded score of one side of a row; of a row without scores, those that are always known."""
    recorded = row.get("scores")
    if isinstance(recorded, dict) and isinstance(recorded.get(side), dict):
        return {name: float(value) for name, value in recorded[side].items()}
    found = row.get("boxes")
    if not isinstance(found, dict):
        return metrics.score(Case(row.get(side), row["label"]), ALWAYS)
    boxes = None if found.get(side) is None else from_row(found[side])
    return metrics.score(Case(row.get(side), row["label"], "boxes", boxes), OF_BOXES)


def _chosen(judged: Judged, main: str) -> Judged:
    """The rows to show, worst first, among them answers that became worse and that became better."""
    judged = sorted(judged, key=lambda pair: _last(pair[1], main))
    worse = [pair for pair in judged if _change(pair[1], main) < 0][:FLIPS]
    better = spread([pair for pair in judged if _change(pair[1], main) > 0], FLIPS)
    chosen = _unlike([*worse, *judged])[:WORST]
    rest = _unlike([*chosen, *better, *spread(_unlike([*chosen, *judged])[WORST:], OTHERS)])[WORST : WORST + OTHERS]
    return sorted([*chosen, *rest], key=lambda pair: _last(pair[1], main))


def _unlike(judged: Judged) -> Judged:
    """Each row once."""
    return list({id(row): (row, scores) for row, scores in judged}.values())


def _compared(judged: Judged, main: str, album: Album) -> list[Card]:
    cards = []
    for row, scores in judged:
        texts = [Text("label", clip(row["label"]))]
        texts += [
            Text(_named(side, given, main), clip(row.get(side)), _tone(given, main)) for side, given in scores.items()
        ]
        side, last = list(scores.items())[-1]
        pictures = album.pictures(row, [_answered(row, side)])
        cards.append(Card(str(row["id"]), pictures, texts, _group(scores, main), _rank(last, main)))
    return cards


def _group(scores: dict[str, Scores], main: str) -> str:
    """What one filters by: whether the answer changed, and if not, whether it is right."""
    change, last = _change(scores, main), list(scores.values())[-1]
    if change:
        return "became better" if change > 0 else "became worse"
    return "exact" if last["exact_match"] else "partly right" if _rank(last, main) else "wrong"


def _change(scores: dict[str, Scores], main: str) -> float:
    sides = list(scores.values())
    return _rank(sides[-1], main) - _rank(sides[0], main)


def _last(scores: dict[str, Scores], main: str) -> float:
    return _rank(list(scores.values())[-1], main)


def _rank(scores: Scores, main: str) -> float:
    """How good an answer is: by its fields if only exact matches count, else by the main figure."""
    return scores.get("field_accuracy" if main == "exact_match" else main, 0.0)


def _named(side: str, scores: Scores, main: str) -> str:
    graded = main not in OF_BOXES and main in scores
    return f"{side}, {metrics.title(main)} {100 * scores[main]:.0f} %" if graded else side


def _tone(scores: Scores, main: str) -> str:
    """Right or wrong; of a metric of texts, which are seldom equal to a label, neither if it is in between."""
    value = scores["exact_match"] if main in OF_BOXES else scores.get(main, 0.0)
    return "right" if value == 1 else "wrong" if main in OF_BOXES or value < GRADED else ""


def _main(summary: Summary) -> str:
    return str((summary.get("certainty") or {}).get("main", "exact_match"))


def _answered(row: Summary, side: str) -> Summary:
    """The answer of a side, and its boxes if the evaluation has read them."""
    found = row.get("boxes")
    return {"answer": row.get(side)} | ({"boxes": found.get(side)} if isinstance(found, dict) else {})
