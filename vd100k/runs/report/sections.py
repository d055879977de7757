"""Builds the section of a stage on the report page from its ``summary.json`` and the files that it lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vd100k.boxes import frames
from vd100k.boxes.notations import NOTATIONS
from vd100k.evaluation import page as evaluation
from vd100k.evaluation.metrics import JUDGED, METRICS
from vd100k.images.resizing import SizeRule
from vd100k.io.redaction import redact
from vd100k.labelling import report as labelling
from vd100k.pages import pace
from vd100k.pages.blocks import Bars, Block, Card, Curve, Gallery, Pairs, Section, Table, Text
from vd100k.pages.html import duration, number
from vd100k.pages.pictures import LARGE_BYTES, UNKNOWN, Album
from vd100k.pages.samples import by_reason, clip, histogram, sample, spread
from vd100k.parity import page as parity
from vd100k.runs import closing
from vd100k.runs.summary import figures
from vd100k.verification import blocks as verification

Summary = dict[str, Any]
Blocks = list[Block]

SHOWN = 24  # answers of a generation
PER_REASON = 3


def section(summary: Summary, link: str | None = None, large: int = LARGE_BYTES) -> Section:
    """The section of one stage, with ``large`` bytes of larger pictures. Files that were deleted since are left out."""
    facts = [(name.replace("_", " ").replace("/", " "), _fact(name, value)) for name, value in _facts(summary).items()]
    album = _album(summary, large)
    blocks = BLOCKS[summary["stage"]](summary, album) if summary["stage"] in BLOCKS else []
    blocks = [*_copies(summary, album), *blocks]
    took = duration(float(summary["seconds"]))
    status, error = summary["status"], redact(summary.get("error"))
    return Section(summary["stage"], status, error, facts, blocks, link, result(summary), took)


def _copies(summary: Summary, album: Album) -> Blocks:
    """Pairs of images that show the same, as they are seen in an evaluation or a conversion."""
    cards = [
        Card(pair["first"], album.pictures({"image": pair["picture"]}), [Text("the same as", pair["second"])])
        for pair in summary.get("copies") or []
    ]
    return [Gallery("Images that show the same, side by side", cards, len(cards), "")] if cards else []


def _facts(summary: Summary) -> dict[str, float]:
    """The figures of a stage, without those that a table and bars show as percentages."""
    return {
        name: value for name, value in figures(summary).items() if name.rpartition("/")[2] not in {*METRICS, JUDGED}
    }


def result(summary: Summary) -> str | None:
    """The result of a stage in words; None if it has none, as one that failed early."""
    try:
        return closing.figure({"steps": [], "counts": {}, "metrics": {}, "inputs": [], **summary})
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):  # it did not get so far
        return None


def _generate(summary: Summary, album: Album) -> Blocks:
    path = _first(summary, ".jsonl")
    if not path:
        return []
    parsed = sample(path)
    answered = parsed.rows
    shown = spread(answered, SHOWN)
    asked = {row.get("question") for row in shown}
    shared = clip(asked.pop()) if len(asked) == 1 else ""
    failures = path.with_name(f"{path.stem}.failures.jsonl")
    failed = by_reason(failures, PER_REASON)
    cards = []
    for reason, (_, examples) in failed.items():
        for row in examples:
            texts = [Text(reason, clip(redact(row.get("detail"))), "wrong")]
            cards.append(Card(str(row.get("id")), album.pictures(row), texts, reason, rank=-1))
    for row in shown:
        texts = [] if shared else [Text("prompt", clip(row.get("question")))]
        texts.append(Text("answer", clip(row.get("answer"))))
        pictures = album.pictures(row, [row])
        cards.append(Card(str(row["id"]), pictures, texts, "answered" if failed else ""))
    total = parsed.total + sum(count for count, _ in failed.values())
    lengths = [len(str(row.get("answer"))) for row in answered]
    tokens = [int(row["completion_tokens"]) for row in answered if row.get("completion_tokens")]
    return [
        *_pace(summary),
        Bars(f"Length of the answers, characters{parsed.note}", histogram(lengths), ranges=True),
        Bars(f"Length of the answers, tokens{parsed.note}", histogram(tokens), ranges=True),
        Bars("Failures by reason", [(reason, count) for reason, (count, _) in failed.items()]),
        Gallery("Answers", cards, total, str(path), Text("prompt", shared) if shared else None),
    ]


def _pace(summary: Summary) -> Blocks:
    """The requests a second and the cost over time; nothing of a run that was too short for it."""
    columns = summary.get("metrics", {}).get("pace")
    if not columns:
        return []
    rates, costs = pace.rates(columns), pace.costs(columns)
    return [Curve("Requests a second", rates, timed=True), Curve("Cost so far", costs, "$", timed=True)]


def _convert(summary: Summary, album: Album) -> Blocks:
    rejected = summary["metrics"].get("rejected", {})
    nested = {name: reasons for name, reasons in rejected.items() if isinstance(reasons, dict)}
    blocks: Blocks = [
        Bars(
            f"Rejected rows by reason{f': {name}' if name else ''}", sorted(reasons.items(), key=lambda pair: -pair[1])
        )
        for name, reasons in (nested or {"": rejected}).items()
    ]
    if path := _first(summary):
        cards, total = [], 0
        for reason, (count, examples) in by_reason(path.parent / "rejected.jsonl", PER_REASON).items():
            total += count
            for row in examples:
                whole = row.get("row")
                kept = whole if isinstance(whole, dict) else {"answer": whole}
                texts = [Text(reason, clip(row.get("detail")), "wrong"), Text("answer", clip(kept.get("answer")))]
                pictures = album.pictures(kept, [kept])
                cards.append(Card(str(row.get("id")), pictures, texts, reason))
        blocks.append(Gallery("Examples of rejected rows", cards, total, str(path.parent / "rejected.jsonl")))
    return [*blocks, *verification.of_gate(summary.get("certainty") or {}), _files(summary)]


def _verify(summary: Summary, album: Album) -> Blocks:
    verdicts = _first(summary, ".verdicts.jsonl")
    return [*verification.of_verdicts(summary.get("certainty") or {}, verdicts, album), _files(summary)]


def _finetune(summary: Summary, album: Album) -> Blocks:
    curves = {name: points for name, points in summary["metrics"].items() if points}
    stage = summary.get("settings", {}).get("stage", {"method": "sft", "args": {}})
    settings = [[name, clip(value)] for name, value in stage["args"].items() if value is not None]
    charts: Blocks = [
        Curve(name.replace("_", " ").capitalize(), [(float(step), float(value)) for step, value in points])
        for name, points in curves.items()
    ]
    return [*charts, Table(f"swift {stage['method']}", ["option", "value"], settings)]


def _evaluate(summary: Summary, album: Album) -> Blocks:
    return evaluation.blocks(summary, _made(summary, ".jsonl"), album)


def headline(summary: Summary) -> list[Card]:
    """The first pictures of an evaluation with the answers of all sides; none of another stage."""
    path = _first(summary, ".jsonl")
    if summary["stage"] != "evaluate" or not path:
        return []
    return evaluation.headline(summary, path, _album(summary, large=0))


def measured(summary: Summary) -> Pairs | None:
    """The figures of all sides of an evaluation as bars; None of another stage."""
    return evaluation.measured(summary) if summary["stage"] == "evaluate" else None


def _files(summary: Summary) -> Table:
    made = [[Path(fact["path"]).name, number(fact.get("rows"))] for fact in summary["outputs"]]
    return Table("Files written", ["file", "rows"], made)


def _parity(summary: Summary, album: Album) -> Blocks:
    path = _first(summary, "parity.json")
    return parity.blocks(path) if path else []


BLOCKS: dict[str, Callable[[Summary, Album], Blocks]] = {
    "generate": _generate,
    "verify": _verify,
    "convert": _convert,
    "parity": _parity,
    "parity_merged": _parity,
    "finetune": _finetune,
    "label": lambda summary, album: labelling.blocks(summary["counts"], _first(summary, ".jsonl"), album),
    "evaluate": _evaluate,
    "export": lambda summary, album: [_files(summary)],
    "render": lambda summary, album: [_files(summary)],
}


def _album(summary: Summary, large: int) -> Album:
    """An album of the declared folders of the images; there are none for a run before they were recorded."""
    folders = summary.get("image_folders") or []
    model = summary.get("settings", {}).get("model", {})
    sizes = [model.get(key) for key in ("token_side", "min_pixels", "max_pixels")] if isinstance(model, dict) else []
    known = [size for size in sizes if isinstance(size, int) and size > 0]
    inside = [folder for folder in folders if isinstance(folder, str)]
    notation = model.get("box_notation") if isinstance(model, dict) else None
    rule = SizeRule(*known) if len(known) == 3 else UNKNOWN
    return Album(inside, frames.named(notation if notation in NOTATIONS else None, rule), large)


def _first(summary: Summary, suffix: str = "") -> Path | None:
    """The first output file with this suffix that still exists."""
    return next(iter(_made(summary, suffix)), None)


def _made(summary: Summary, suffix: str) -> list[Path]:
    """The output files with this suffix that still exist."""
    paths = (Path(fact["path"]) for fact in summary["outputs"])
    return [path for path in paths if path.name.endswith(suffix) and path.exists()]


def _fact(name: str, value: float) -> str:
    return money(value) if name == "cost" else number(value)


def money(dollars: float) -> str:
    """An amount in dollars; one below a cent in hundredths of a cent."""
    return f"${dollars:.2f}" if dollars >= closing.CENT or not dollars else f"${dollars:.4f}"
