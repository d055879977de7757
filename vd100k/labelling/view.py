"""A row as HTML: its images with the boxes of the answer, question, answer, and how far the labelling has come.

The template escapes everything that comes from a row, so that HTML in an answer is shown as text.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jinja2

from vd100k.boxes import frames
from vd100k.boxes.notations import Frame
from vd100k.chat import grounding
from vd100k.images import transform
from vd100k.images.encode import ImageError
from vd100k.images.paths import outside_detail, within
from vd100k.io.jsonl import Row
from vd100k.labelling.labels import Label, answer_text
from vd100k.labelling.sample import Drawn
from vd100k.labelling.session import Session
from vd100k.pages.pictures import data_url, webp

SIDE = 1600  # pixels, the longest side of an image on the page: small print stays legible when it is enlarged
AHEAD = 2  # rows whose images are read while a person looks at the one before
KEPT = 16  # rows whose images are kept, for going back
CHOICES = ("choiceA", "choiceB", "choiceC", "choiceD")
TEMPLATE = jinja2.Environment(
    loader=jinja2.PackageLoader("vd100k.labelling", ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
).get_template("row.html.j2")


class Picture(NamedTuple):
    """An image as a ``data:`` URL, or why it cannot be shown."""

    url: str = ""
    fault: str = ""


@dataclass
class View:
    """Makes the HTML of a session's rows.

    Images outside ``folder`` are not read. ``frame`` is how the model writes boxes, which decides where those in its
    answers are.
    """

    session: Session
    folder: str
    frame: Frame
    _displays: Iterator[int] = field(default_factory=itertools.count, init=False)
    _reader: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1), init=False)

    def __post_init__(self) -> None:
        self.pictures = functools.lru_cache(KEPT)(self._pictures)

    def page(self, number: int | None, notice: str = "") -> str:
        """The row with this number, or if it is None a sentence that all rows are labelled."""
        session = self.session
        values = {
            "notice": notice,
            "tally": session.tally,
            "stratified": any(drawn.stratum for drawn in session.sample),
            "labels": session.ledger.path,
        }
        if number is not None:
            # No two displays of a row have the same value of ``shown``: a label is about what was on the page.
            values |= {"shown": f"{number}.{next(self._displays)}", "pictures": self.pictures(number)}
            values |= _texts(session.sample[number], session.ledger.of(session.sample[number]))
            for ahead in range(number + 1, min(number + 1 + AHEAD, len(session.sample))):
                self._reader.submit(self.pictures, ahead)
        return TEMPLATE.render(values)

    def _pictures(self, number: int) -> list[Picture]:
        row = self.session.sample[number].row
        names = row.get("images") or list(filter(None, [row.get("image")]))  # a question about nothing but text
        # Boxes are about one image; nothing says which one of several.
        return [self._picture(name, row, alone=len(names) == 1) for name in names]

    def _picture(self, name: Any, row: Row, alone: bool) -> Picture:
        try:
            return Picture(self._url(name, row, alone))
        except Exception as error:  # Pillow's decoders raise errors of many types
            return Picture(fault=f"{name}: the image cannot be shown: {str(error) or repr(error)}")

    def _url(self, name: Any, row: Row, alone: bool) -> str:
        path = within(self.folder, str(name))
        if path is None:
            raise ImageError(outside_detail(self.folder))
        upright = transform.upright(path)
        found = frames.of_row(row, self.frame, upright.size) if alone else []
        drawn = grounding.draw(upright, found) if found else upright
        drawn.thumbnail((SIDE, SIDE))
        return data_url("image/webp", webp(drawn, 85, 0))


def _texts(drawn: Drawn, label: Label | None) -> dict[str, Any]:
    """The texts of a row for the template; ``before`` is what this person said about it before."""
    row = drawn.row
    choices = [f"{name[-1]}. {row[name]}" for name in CHOICES if name in row]
    question, answer = "\n".join([row["question"], *choices]), answer_text(row["answer"])
    word = {True: "right", False: "wrong", None: "skipped"}[label.right] if label else ""
    corrected = f", corrected to: {label.corrected}" if label and label.corrected else ""
    earlier = [(turn["question"], answer_text(turn["answer"])) for turn in drawn.earlier]
    return {"row": row, "earlier": earlier, "question": question, "answer": answer, "before": word + corrected}
