"""A few answers beside their pictures, to look at before the rest is paid for."""

from __future__ import annotations

import itertools
from pathlib import Path

import jinja2

from vd100k.config.run import Run
from vd100k.console import say
from vd100k.generation.ledger import Row
from vd100k.images import encode as images
from vd100k.io import append_log as journal

PIXELS = 400 * 400  # of a picture on the page


def show(run: Run, rows: Path, folder: Path) -> Path:
    """Print the answers in the ledger ``rows``, and write ``preview.html`` with their pictures into ``folder``."""
    answers = [row for _, row in journal.lines(rows)]
    failures = [row for _, row in journal.lines(rows.with_name(f"{rows.stem}.failures.jsonl"))]
    for row in answers:
        say(f"\n{row['id']}\n  {row['question']}\n  {row['answer']}")
    for row in failures:
        say(f"\n{row['id']}\n  no answer: {row['reason']}, {row['detail']}")
    answers.sort(key=lambda row: str(row["id"]))
    shown = [_picture(id, list(group)) for id, group in itertools.groupby(answers, key=lambda row: str(row["id"]))]
    pages = jinja2.Environment(loader=jinja2.PackageLoader("vd100k.generation", ""), autoescape=True, trim_blocks=True)
    page = folder / "preview.html"
    title = f"{run.model.name}, {run.task.name}: {len(answers)} answers"
    text = pages.get_template("preview.html.j2").render(
        title=title, language=run.task.language, prompt=run.task.prompt, rows=shown, failures=failures
    )
    page.write_text(text, encoding="utf-8")
    return page


def _picture(id: str, rows: list[Row]) -> Row:
    return {"id": id, "rows": rows, "url": images.encode(rows[0]["image"], PIXELS).url.decode()}
