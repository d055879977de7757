"""A few answers beside their images, to look at before paying for the rest."""

from __future__ import annotations

import itertools
from pathlib import Path

import jinja2

from vd100k.config.run import Run
from vd100k.console import say
from vd100k.images.encode import encode
from vd100k.io.jsonl import Row, read_rows

MAX_PIXELS = 400 * 400  # of an image on the page


def show(run: Run, rows: Path, folder: Path) -> Path:
    """Print the answers in the ledger ``rows``, and write ``preview.html`` with their images into ``folder``."""
    answers = list(read_rows(rows))
    failures = list(read_rows(rows.with_name(f"{rows.stem}.failures.jsonl")))
    for row in answers:
        say(f"\n{row['id']}\n  {row['question']}\n  {row['answer']}")
    for row in failures:
        say(f"\n{row['id']}\n  no answer: {row['reason']}, {row['detail']}")
    answers.sort(key=lambda row: str(row["id"]))
    images = [_image(id, list(group)) for id, group in itertools.groupby(answers, key=lambda row: str(row["id"]))]
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("vd100k.generation", ""), autoescape=True, trim_blocks=True
    )
    page = folder / "preview.html"
    title = f"{run.model.name}, {run.task.name}: {len(answers)} answers"
    text = templates.get_template("preview.html.j2").render(
        title=title, language=run.task.language, prompt=run.task.prompt, images=images, failures=failures
    )
    page.write_text(text, encoding="utf-8")
    return page


def _image(id: str, rows: list[Row]) -> Row:
    return {"id": id, "rows": rows, "url": encode(rows[0]["image"], MAX_PIXELS).url.decode()}
