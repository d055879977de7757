"""The notations in which families of models write boxes, each named for what it is. Pure functions.

``thousandths-tags``
    ``<ref>a dog</ref><box>(x1,y1),(x2,y2)</box>`` in thousandths of the sides. Source: Qwen-VL's README
    (https://github.com/QwenLM/Qwen-VL).
``thousandths-tokens``
    ``<|object_ref_start|>a dog<|object_ref_end|><|box_start|>(x1,y1),(x2,y2)<|box_end|>``, the same with special
    tokens. Source: the Qwen2-VL paper, arXiv 2409.12191, section 2.2. Servers leave special tokens out of the text
    that they send, so this notation is read without them too.
``resized-pixels-json``
    ``[{"bbox_2d": [x1, y1, x2, y2], "label": "a dog"}]`` in a block of JSON, in pixels of the resized image that the
    model sees. Source: the cookbook on spatial understanding in Qwen2.5-VL's repository, and arXiv 2502.13923.
``thousandths-json``
    The same JSON in thousandths of the sides. Source: the cookbook on 2D grounding in Qwen3-VL's repository
    (https://github.com/QwenLM/Qwen3-VL).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vd100k.boxes.box import DECIMALS, Box, BoxError, Corners, Size, as_corners, clean, clip, scaled

THOUSAND = (1000, 1000)
NUMBER = r"\s*(-?\d{1,6}(?:\.\d{1,6})?)\s*"
CORNERS = rf"\({NUMBER},{NUMBER}\)\s*,\s*\({NUMBER},{NUMBER}\)"
# At most 200 characters, so that no text takes long.
REF = r"(?:<ref>|<\|object_ref_start\|>)(.{0,200}?)(?:</ref>|<\|object_ref_end\|>)"
ITEM = re.compile(rf"{REF}|(?:(?:<box>|<\|box_start\|>)\s*)?{CORNERS}(?:\s*(?:</box>|<\|box_end\|>))?", re.DOTALL)
# What is left of a box or a label that is not complete.
BROKEN = re.compile(r"</?(?:ref|box)>|<\|(?:object_ref|box)_(?:start|end)\|>|\(\s*-?\d+\s*,\s*-?\d+")
LONGEST_UNTAGGED_LABEL = 80  # characters; longer text before a box without tags is a sentence
KEYS = ("bbox_2d", "bbox", "box_2d", "box")

# What an answer says: a label and its corners in the numbers of the notation, or a sentence about what is wrong.
Item = tuple[str, Corners] | str


@dataclass(frozen=True)
class Notation:
    """How a family writes a label and a box, and in which numbers.

    ``ref`` and ``box`` are what stands around a label and around the corners; without them, the notation is JSON.
    """

    name: str
    thousandths: bool
    ref: tuple[str, str] | None = None
    box: tuple[str, str] | None = None

    @property
    def is_json(self) -> bool:
        return self.box is None

    def scale(self, resized: Size) -> Size:
        """The numbers of the right and the bottom edge on an image that the model sees as ``resized``."""
        return THOUSAND if self.thousandths else resized

    def items(self, answer: str) -> Iterator[Item]:
        """What an answer says, in its order."""
        return _in_json(answer) if self.is_json else _in_text(answer)

    def listing(self, labels: list[str], boxes: list[str]) -> str:
        """An answer that names these labels and boxes and nothing else; both are written as they are given."""
        pairs = list(zip(labels, boxes, strict=True))
        if not self.is_json:
            return "\n".join(label + box for label, box in pairs)
        entries = ",\n".join(f'\t{{"bbox_2d": {box}, "label": "{label}"}}' for label, box in pairs)
        return f"```json\n[\n{entries}\n]\n```" if pairs else "```json\n[]\n```"

    def label_text(self, label: str) -> str:
        """A label in the listing."""
        return json.dumps(label, ensure_ascii=False)[1:-1] if self.ref is None else label.join(self.ref)

    def box_text(self, corners: list[int]) -> str:
        """Corners in the listing."""
        x1, y1, x2, y2 = corners
        return f"[{x1}, {y1}, {x2}, {y2}]" if self.box is None else f"({x1},{y1}),({x2},{y2})".join(self.box)


NOTATIONS = {
    notation.name: notation
    for notation in (
        Notation("thousandths-tags", True, ("<ref>", "</ref>"), ("<box>", "</box>")),
        Notation(
            *("thousandths-tokens", True),
            ref=("<|object_ref_start|>", "<|object_ref_end|>"),
            box=("<|box_start|>", "<|box_end|>"),
        ),
        Notation("resized-pixels-json", False),
        Notation("thousandths-json", True),
    )
}


@dataclass(frozen=True)
class Frame:
    """The boxes of one model: its notation, and the rule by which it resizes an image of a width and a height."""

    notation: Notation
    resized: Callable[[int, int], Size]

    def read(self, answer: str, size: Size) -> list[Box]:
        """The boxes in an answer about an image of ``size``; whether they lie in it is for ``box.checked``.

        Raises:
            BoxError: the answer is not in this notation: a label without a box, a box without a label, a part is
                missing at its end, or there is neither a box nor an empty list.
        """
        scale = self.notation.scale(self.resized(*size))
        return [_placed(item, scale, size) for item in _faultless(self.notation.items(answer))]

    def find(self, answer: str, size: Size) -> list[Box]:
        """The boxes in any text, clipped to the image; those without an area are left out, and nothing is an error.

        A model does not always answer in its own notation. Text is always in thousandths, and the notation decides
        the numbers in JSON.
        """
        as_json = "bbox" in answer
        try:
            items = [item for item in (_in_json if as_json else _in_text)(answer) if not isinstance(item, str)]
        except (ValueError, RecursionError):  # small models sometimes repeat a digit or a bracket endlessly
            return []
        scale = self.notation.scale(self.resized(*size)) if as_json else THOUSAND
        boxes = (_placed(item, scale, size) for item in items)
        clipped = (Box(box.label, clip(box.corners, size)) for box in boxes)
        return [box for box in clipped if box.corners[0] < box.corners[2] and box.corners[1] < box.corners[3]]

    def write(self, boxes: list[Box], size: Size) -> str:
        """The answer that names these boxes on an image of ``size``.

        Raises:
            BoxError: the notation cannot say it: a label looks like a box or a tag, a box is too small for whole
                numbers, or there is no box and the notation has no empty list.
        """
        notation = self.notation
        numbers = [self.numbers(box, size) for box in boxes]
        labels = [notation.label_text(box.label) for box in boxes]
        answer = notation.listing(labels, list(map(notation.box_text, numbers)))
        if [label for label, _ in _faultless(notation.items(answer))] != [box.label for box in boxes]:
            raise BoxError(f"the labels {', '.join(f'“{box.label}”' for box in boxes)} cannot be written as text")
        return answer

    def numbers(self, box: Box, size: Size) -> list[int]:
        """The corners in the whole numbers of the notation.

        Raises:
            BoxError: two of them become equal.
        """
        numbers = [round(corner) for corner in scaled(box.corners, size, self.notation.scale(self.resized(*size)))]
        if numbers[0] == numbers[2] or numbers[1] == numbers[3]:
            raise BoxError(f"“{box.label}” is too small: its corners are equal in {self.notation.name}")
        return numbers


def _placed(item: tuple[str, Corners], scale: Size, size: Size) -> Box:
    label, corners = item
    x1, y1, x2, y2 = (round(corner, DECIMALS) for corner in scaled(corners, scale, size))
    return Box(label, (x1, y1, x2, y2))


def _faultless(items: Iterator[Item]) -> list[tuple[str, Corners]]:
    """The items, or BoxError for the first that is a fault or has no label."""
    kept = []
    try:
        for item in items:
            if isinstance(item, str):
                raise BoxError(item)
            if not item[0]:
                raise BoxError(f"the box [{', '.join(f'{corner:g}' for corner in item[1])}] has no label")
            kept.append(item)
    except (ValueError, RecursionError) as error:
        raise BoxError(str(error) if isinstance(error, BoxError) else "the JSON cannot be read") from None
    return kept


def _in_text(answer: str) -> Iterator[Item]:
    """Tagged labels, each followed by its boxes; without tags, what stands before a box on its line is the label."""
    matches = list(ITEM.finditer(answer))
    is_tagged = any(match[1] is not None for match in matches)
    label, boxes, waits, end, rest = "", 0, False, 0, ""
    for match in matches:
        between, end = answer[end : match.start()], match.end()
        rest += f"{between}\n"
        if match[1] is not None:
            if waits:
                yield f"the label “{label}” has no box"
            label, waits = clean(match[1]), True
            continue
        label = label if is_tagged else _untagged_label(between) or label
        waits, boxes = False, boxes + 1
        if corners := as_corners([float(number) for number in match.groups()[1:]]):
            yield label, corners
    rest += answer[end:]
    if waits:
        yield f"the label “{label}” has no box"
    elif broken := BROKEN.search(rest):
        yield f"a box or a label is not complete: {rest[broken.start() :][:40]}"
    elif not boxes:
        yield "it contains no box"


def _untagged_label(before: str) -> str:
    """The label before a box whose special tokens the server left out; a sentence is none."""
    label = clean(before.strip().rpartition("\n")[2]).strip(" :：-–*•")
    return label if len(label) <= LONGEST_UNTAGGED_LABEL else ""


def _in_json(answer: str) -> Iterator[Item]:
    inner = answer.partition("```json")[2] or answer
    start = min((at for at in (inner.find("["), inner.find("{")) if at >= 0), default=None)
    if start is None:
        yield "it contains no JSON"
        return
    content, is_whole = _parsed(inner[start:])
    for entry in _objects(content):
        key = next((key for key in KEYS if key in entry), None)
        label = clean(str(entry.get("label") or ""))
        if key and (corners := as_corners(entry[key])):
            yield label, corners
        elif key:
            yield f"the box of “{label}” is not four numbers"
        elif label:
            yield f"the label “{label}” has no box"
    if not is_whole:
        yield f"the JSON is cut off: … {inner.rstrip()[-40:]}"


def _parsed(text: str) -> tuple[Any, bool]:
    """The JSON value at the beginning of a text, with small errors repaired, and whether it is whole."""
    try:
        return json.JSONDecoder().raw_decode(text)[0], True
    except ValueError:
        import json_repair  # slow to import

        opened, closed = text.count("[") + text.count("{"), text.count("]") + text.count("}")
        return json_repair.loads(text), opened <= closed


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON value, at any depth."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from _objects(inner)
