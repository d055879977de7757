"""The boxes in the answers of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping

from vd100k.boxes import frames
from vd100k.boxes.box import Box, BoxError
from vd100k.boxes.notations import Frame
from vd100k.config.run import Run
from vd100k.images.encode import upright_size

Answers = Mapping[str, str]  # by image id
Found = dict[str, list[Box]]  # by image id; an answer that cannot be read is left out


def locate(run: Run, images: Mapping[str, str], sides: Mapping[str, Answers]) -> dict[str, Found]:
    """The boxes in the answers of each side; no side if the task does not ask for boxes. ``images`` are paths by id."""
    if run.task.reader != "boxes":
        return {}
    frame = frames.of(run.model)
    return {name: _located(frame, images, answers) for name, answers in sides.items()}


def _located(frame: Frame, images: Mapping[str, str], answers: Answers) -> Found:
    found: Found = {}
    for id, answer in answers.items():
        size = upright_size(images[id])
        if boxes := frame.find(answer, size):
            found[id] = boxes
        elif _says_none(frame, answer, size):
            found[id] = []
    return found


def _says_none(frame: Frame, answer: str, size: tuple[int, int]) -> bool:
    try:
        return not frame.read(answer, size)
    except BoxError:
        return False
