"""A row as HTML: its images with the boxes of the answer, question, answer, and how far the labelling has come.

Everything that comes from a row is escaped, so that HTML in an answer is shown as text.
"""

from __future__ import annotations

import functools
import html
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vd100k.chat import grounding
from vd100k.images import boxes, transform
from vd100k.images.decode import opened
from vd100k.images.encode import ImageError
from vd100k.images.find import outside_detail, within
from vd100k.images.resizing import SizeRule
from vd100k.io.jsonl import Row
from vd100k.labelling.labels import Label, answer_text
from vd100k.labelling.session import Session
from vd100k.pages.pictures import data_url, webp

SIDE = 1600  # pixels, the longest side of an image on the page: small print stays legible when it is enlarged
AHEAD = 2  # rows whose images are read while a person looks at the one before
KEPT = 16  # rows whose images are kept, for going back
CHOICES = ("choiceA", "choiceB", "choiceC", "choiceD")


@dataclass
class View:
    """Makes the HTML of a session's rows.

    Images outside ``folder`` are not read. ``rule`` is how the model saw them resized, which
    decides where boxes in its answers are.
    """

    session: Session
    folder: Path
    rule: SizeRule
    _displays: Iterator[int] = field(default_factory=itertools.count, init=False)
    _reader: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1), init=False)

    def __post_init__(self) -> None:
        self.images = functools.lru_cache(KEPT)(self._images)

    def page(self, number: int | None, notice: str = "") -> str:
        """The row with this number, or if it is None a sentence that all rows are labelled."""
        for ahead in range(1, AHEAD + 1):
            if number is not None and number + ahead < len(self.session.sample):
                self._reader.submit(self.images, number + ahead)
        shown = "" if number is None else f"{number}.{next(self._displays)}"  # no two displays of a row are alike
        body = self._finished() if number is None else self._row(number)
        told = f'<p class="notice">{html.escape(notice)}</p>' if notice else ""
        return f'<article data-shown="{shown}">{self._progress()}{told}{body}</article>'

    def _progress(self) -> str:
        tally = self.session.tally
        stratified = any(drawn.stratum for drawn in self.session.sample)
        about = "of this sample, which has more of the rare scores" if stratified else "of all rows"
        estimate = f"{tally.estimate} {about}" if tally.right + tally.wrong else tally.estimate
        skipped = f" · {tally.skipped:,} skipped" if tally.skipped else ""
        return (
            f'<p class="progress"><b>{tally.labelled:,} of {tally.rows:,}</b> labelled · {estimate}{skipped}</p>'
            f'<progress value="{tally.labelled}" max="{tally.rows}"></progress>'
        )

    def _finished(self) -> str:
        path = html.escape(str(self.session.ledger.path))
        return f'<p class="finished">All rows of the sample are labelled. You can close this page: {path}</p>'

    def _row(self, number: int) -> str:
        drawn = self.session.sample[number]
        row, before = drawn.row, self.session.ledger.of(drawn)
        pictures = "".join(self.images(number))
        return (
            f'<div class="pictures">{pictures}</div>'
            f'<div class="texts"><p class="id">{html.escape(row["id"])}{_before(before)}</p>'
            f'<h2>Question</h2><div class="text question">{html.escape(_question(row))}</div>'
            f'<h2>Answer</h2><div class="text answer">{html.escape(answer_text(row["answer"]))}</div></div>'
        )

    def _images(self, number: int) -> list[str]:
        row = self.session.sample[number].row
        paths = row.get("images") or [row.get("image")]
        return [self._image(path, answer_text(row["answer"]) if len(paths) == 1 else "") for path in paths]

    def _image(self, name: Any, answer: str) -> str:
        """An image with the boxes of the answer, or a sentence about why it cannot be shown."""
        try:
            return f'<img src="{self._url(name, answer)}" alt="">'
        except Exception as error:  # Pillow's decoders raise errors of many types
            return f'<p class="notice">{html.escape(f"{name}: the image cannot be shown: {error}")}</p>'

    def _url(self, name: Any, answer: str) -> str:
        path = within(self.folder, str(name))
        if path is None:
            raise ImageError(outside_detail(self.folder))
        with opened(path) as image:
            upright = transform.rgb(image)
        found = boxes.find(answer, upright.size, self.rule)
        drawn = grounding.draw(upright, found) if found else upright
        drawn.thumbnail((SIDE, SIDE))
        return data_url("image/webp", webp(drawn, 85, 0))


def _question(row: Row) -> str:
    choices = [f"{name[-1]}. {row[name]}" for name in CHOICES if name in row]
    return "\n".join([row["question"], *choices])


def _before(label: Label | None) -> str:
    """What this person said about the row before."""
    if label is None:
        return ""
    word = {True: "right", False: "wrong", None: "skipped"}[label.right]
    corrected = f", corrected to: {label.corrected}" if label.corrected else ""
    return f' · <span class="before">labelled {html.escape(word + corrected)}</span>'
