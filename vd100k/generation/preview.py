"""A few answers beside their images, to look at before paying for the rest."""

from __future__ import annotations

from pathlib import Path

from vd100k.boxes import frames
from vd100k.config.run import Run
from vd100k.console import say
from vd100k.images.groups import names
from vd100k.io import atomic
from vd100k.io.jsonl import Row, read_rows
from vd100k.pages.blocks import Card, Gallery, Headline, Text
from vd100k.pages.html import render
from vd100k.pages.pictures import Album


def show(run: Run, rows: Path, folder: Path) -> Path:
    """Print the answers in the ledger ``rows``, and write ``preview.html`` with their images into ``folder``."""
    answers = sorted(read_rows(rows), key=lambda row: str(row["id"]))
    failures = list(read_rows(rows.with_name(f"{rows.stem}.failures.jsonl")))
    for row in answers:
        say(f"\n{row['id']}\n  {row['question']}\n  {row['answer']}")
    for row in failures:
        say(f"\n{row['id']}\n  no answer: {row['reason']}, {row['detail']}")
    page = folder / "preview.html"
    html = render("preview.html.j2", language=run.task.language, **_content(run, answers, failures))
    atomic.replace(page, [html])
    return page


def _content(run: Run, answers: list[Row], failures: list[Row]) -> dict[str, Headline | Gallery]:
    # The images were found in their folder when they were asked about.
    folders = {name.rpartition("/")[0] for row in answers for name in names(row)}
    album = Album(sorted(folders), frames.of(run.model))
    is_shared = len({row["question"] for row in answers}) == 1
    by_image: dict[str, list[Row]] = {}
    for row in answers:
        by_image.setdefault(str(row["id"]), []).append(row)
    cards = [
        Card(str(row["id"]), [], [Text(str(row["reason"]), str(row["detail"]), "wrong")], str(row["reason"]), -1)
        for row in failures
    ]
    for id, group in by_image.items():
        texts = [Text("answer" if is_shared else str(row["question"]), str(row["answer"])) for row in group]
        cards.append(Card(id, album.pictures(group[0], group), texts, "answered"))
    title, plural = f"{run.model.name}, {run.task.name}", "" if len(answers) == 1 else "s"
    failed = f", {len(failures)} failed" if failures else ""
    facts = [f"{len(by_image)} images", "the same command without preview asks about the rest"]
    return {
        "headline": Headline(title, f"{len(answers)} answer{plural}{failed}", facts),
        "gallery": Gallery("Answers", cards, shared=Text("prompt", run.task.prompt)),
    }
