"""Charts of a run: training curves, and a comparison of answers before and after training."""

from __future__ import annotations

import contextlib
import textwrap
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from vd100k.images.decode import opened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vd100k.evaluation.comparison import Comparison

Curves = dict[str, list[tuple[int, float]]]

COLUMNS = 4
WRAP = 30  # characters
RIGHT, WRONG = "#1a7f37", "#b42318"


@dataclass(frozen=True)
class Compared:
    """An image, or those of a group, with each model's answer and whether that answer is correct."""

    images: list[str]
    answers: dict[str, tuple[str | None, bool]]


def compared(found: Comparison, most: int) -> list[Compared]:
    """The first ``most`` labelled images that have an answer."""
    answered = {id for answers in found.answers.values() for id in answers} & found.labels.keys()
    return [
        Compared(
            list(found.images[id]),
            {
                side: (answers.get(id), bool(found.scores[side][id]["exact_match"]))
                for side, answers in found.answers.items()
            },
        )
        for id in islice((id for id in found.images if id in answered), most)
    ]


def training_curves(curves: Curves, path: Path) -> None:
    """Write one chart per figure of a training run, stacked in one PNG file. Each curve is a list of (step, value)."""
    _curves(curves).savefig(path, dpi=120)


def _curves(curves: Curves) -> Figure:
    figure = _figure(7, 4 * len(curves))
    for axes, (name, points) in zip(figure.subplots(len(curves), squeeze=False).flat, curves.items(), strict=True):
        axes.plot([step for step, _ in points], [value for _, value in points], marker=".")
        axes.set(xlabel="step", ylabel=name.replace("_", " "))
        if "loss" in name:
            axes.set_ylim(0, None)
        axes.grid(alpha=0.3)
    return figure


def comparison(rows: list[Compared], title: str, path: Path) -> None:
    """Write a PNG with a grid of images and, below each image, the models' answers: green if correct, else red."""
    figure = _figure(3.2 * COLUMNS, 3.6 * -(-len(rows) // COLUMNS) + 0.4)
    figure.suptitle(title)
    for axes, row in zip(figure.subplots(-(-len(rows) // COLUMNS), COLUMNS, squeeze=False).flat, rows, strict=False):
        with contextlib.suppress(OSError):  # a broken image is left blank
            axes.imshow(_side_by_side(row.images))
        lines = 0
        for name, (answer, right) in row.answers.items():
            text = textwrap.fill(f"{name}: {answer if answer is not None else '(none)'}", WRAP)
            axes.annotate(
                text.replace("$", r"\$"),
                (0, -0.03),
                xycoords="axes fraction",
                xytext=(0, -11 * lines),
                textcoords="offset points",
                va="top",
                family="monospace",
                fontsize=8,
                color=RIGHT if right else WRONG,
            )
            lines += text.count("\n") + 1
    for axes in figure.axes:
        axes.set_axis_off()
    figure.savefig(path, dpi=110)


def _side_by_side(paths: list[str]) -> Image.Image:
    """The images beside each other, all as high as the first."""
    with contextlib.ExitStack() as stack:
        images = [stack.enter_context(opened(path)).convert("RGB") for path in paths]
    height = images[0].height
    scaled = [image.resize((max(1, image.width * height // image.height), height)) for image in images]
    sheet = Image.new("RGB", (sum(image.width for image in scaled), height), "white")
    left = 0
    for image in scaled:
        sheet.paste(image, (left, 0))
        left += image.width
    return sheet


def _figure(width: float, height: float) -> Figure:
    """A figure of this width and height in inches. It does not need a display."""
    from matplotlib.figure import Figure  # slow to import

    return Figure(figsize=(width, height), layout="constrained")
