"""Builds the section of a stage on the report page from its ``summary.json`` and the files that it lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vd100k.evaluation.metrics import score
from vd100k.io.redaction import redact
from vd100k.runs.report.blocks import Bars, Card, Chart, Gallery, Section, Table, Text
from vd100k.runs.report.samples import by_reason, data_url, histogram, sample, spread, thumbnail
from vd100k.runs.summary import figures

Summary = dict[str, Any]
Blocks = list[Table | Bars | Gallery | Chart]

SHOWN = 24  # answers of a generation
WORST = 36  # answers of an evaluation
PER_REASON = 3
LONGEST = 1500  # characters of a text


def section(summary: Summary, link: str | None = None) -> Section:
    """The section of one stage. Files that were deleted since are left out."""
    facts = [(name.replace("_", " ").replace("/", " "), _number(value)) for name, value in figures(summary).items()]
    blocks = BLOCKS[summary["stage"]](summary) if summary["stage"] in BLOCKS else []
    facts.append(("seconds", _number(summary["seconds"])))
    return Section(summary["stage"], summary["status"], redact(summary.get("error")), facts, blocks, link)


def _generate(summary: Summary) -> Blocks:
    blocks: Blocks = []
    if path := _first(summary, ".jsonl"):
        parsed = sample(path)
        answered = parsed.rows
        blocks.append(Gallery("Answers", [_answer(row, _folders(summary)) for row in spread(answered, SHOWN)]))
        lengths = [len(str(row.get("answer"))) for row in answered]
        blocks.append(Bars(f"Length of the answers, characters{parsed.note}", histogram(lengths)))
        tokens = [int(row["completion_tokens"]) for row in answered if row.get("completion_tokens")]
        blocks.append(Bars(f"Length of the answers, tokens{parsed.note}", histogram(tokens)))
        failed = by_reason(path.with_name(f"{path.stem}.failures.jsonl"), PER_REASON)
        blocks.append(Bars("Failures by reason", [(reason, count) for reason, (count, _) in failed.items()]))
        details = [
            [str(row.get("id")), reason, _clip(redact(row.get("detail")))]
            for reason, (_, examples) in failed.items()
            for row in examples
        ]
        blocks.append(Table("Examples of failures", ["image", "reason", "detail"], details))
    return blocks


def _convert(summary: Summary) -> Blocks:
    rejected = summary["metrics"].get("rejected", {})
    nested = {name: reasons for name, reasons in rejected.items() if isinstance(reasons, dict)}
    blocks: Blocks = [
        Bars(
            f"Rejected rows by reason{f': {name}' if name else ''}", sorted(reasons.items(), key=lambda pair: -pair[1])
        )
        for name, reasons in (nested or {"": rejected}).items()
    ]
    if path := _first(summary):
        cards = []
        for reason, (_, examples) in by_reason(path.parent / "rejected.jsonl", PER_REASON).items():
            for row in examples:
                whole = row.get("row")
                kept = whole if isinstance(whole, dict) else {"answer": whole}
                texts = [Text(reason, _clip(row.get("detail")), "wrong"), Text("answer", _clip(kept.get("answer")))]
                image = thumbnail(kept.get("image"), _folders(summary))
                cards.append(Card(str(row.get("id")), image, texts))
        blocks.append(Gallery("Examples of rejected rows", cards))
    blocks.append(_files(summary))
    return blocks


def _finetune(summary: Summary) -> Blocks:
    from vd100k.runs import charts

    curves = {name: points for name, points in summary["metrics"].items() if points}
    stage = summary.get("settings", {}).get("stage", {"method": "sft", "args": {}})
    settings = [[name, _clip(value)] for name, value in stage["args"].items() if value is not None]
    options = Table(f"swift {stage['method']}", ["option", "value"], settings)
    if not curves:
        return [options]
    return [Chart("Training curves", data_url("image/svg+xml", charts.curves_svg(curves))), options]


def _evaluate(summary: Summary) -> Blocks:
    sides = {name: scores for name, scores in summary["metrics"].items() if isinstance(scores, dict)}
    names = list(dict.fromkeys(key for scores in sides.values() for key in scores))
    percent = [
        [name.replace("_", " "), *(f"{100 * scores[name]:.1f} %" for scores in sides.values())] for name in names
    ]
    blocks: Blocks = [Table("Held-out images", ["", *sides], percent)]
    if path := _first(summary, ".jsonl"):
        judged = [
            (row, {side: score(row.get(side), row["label"]) for side in sides})
            for row in sample(path).rows
            if "label" in row
        ]
        last = list(sides)[-1]
        judged.sort(key=lambda pair: pair[1][last].field_accuracy)
        cards = []
        for row, scores in judged[:WORST]:
            texts = [Text("label", _clip(row["label"]))]
            for side, result in scores.items():
                texts.append(Text(side, _clip(row.get(side)), "right" if result.exact_match else "wrong"))
            cards.append(Card(str(row["id"]), thumbnail(row.get("image"), _folders(summary)), texts))
        blocks.append(Gallery(f"{' and '.join(sides).capitalize()}, worst first", cards))
    return blocks


def _files(summary: Summary) -> Table:
    made = [[Path(fact["path"]).name, _number(fact.get("rows"))] for fact in summary["outputs"]]
    return Table("Files written", ["file", "rows"], made)


BLOCKS: dict[str, Callable[[Summary], Blocks]] = {
    "generate": _generate,
    "convert": _convert,
    "finetune": _finetune,
    "evaluate": _evaluate,
    "export": lambda summary: [_files(summary)],
    "render": lambda summary: [_files(summary)],
}


def _folders(summary: Summary) -> list[str]:
    """The declared folders of the images; none for a run before they were recorded."""
    folders = summary.get("image_folders") or []
    return [folder for folder in folders if isinstance(folder, str)]


def _answer(row: Summary, folders: list[str]) -> Card:
    texts = [Text("prompt", _clip(row.get("question"))), Text("answer", _clip(row.get("answer")))]
    return Card(str(row["id"]), thumbnail(row.get("image"), folders), texts)


def _first(summary: Summary, suffix: str = "") -> Path | None:
    """The first output file with this suffix that still exists."""
    paths = (Path(fact["path"]) for fact in summary["outputs"])
    return next((path for path in paths if path.suffix.endswith(suffix) and path.exists()), None)


def _clip(value: object) -> str:
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)
