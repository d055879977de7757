"""The figures of parts of an evaluation: slices of its images, and the fields of its labels."""

from __future__ import annotations

import contextlib
import difflib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import quantiles
from typing import Any

from vd100k.answers.values import as_number, fields, same
from vd100k.evaluation.certainty import Certainty, part
from vd100k.images.encode import ImageError, upright_size

IMAGE_SIZE = "image_size"  # the short side of the image, in pixels
FEWEST = 10  # images of a slice that say something
MOST = 20  # slices of a column; the smallest ones are joined
MOST_NUMBERS = 8  # different numbers in a column; more are cut into four ranges
MOST_FIELDS = 40  # in the table by field
LONGEST = 60  # characters of a name
NAMED = 3  # worst slices that are named
OTHERS, MISSING = "all others", "(none)"

Values = Mapping[str, Any]  # of a column, by image id
Parts = list[Certainty]


def columns(
    names: Iterable[str], known: Mapping[str, Values], labels: Values, paths: Mapping[str, str]
) -> dict[str, Values]:
    """The values to slice by, by column and image id.

    A name is that of one of the ``known`` columns of the labels file, of a field of the labels such as ``objects.0``,
    or ``image_size``: the short side of the image at its path.
    """
    found: dict[str, Values] = {}
    for name in names:
        if name in known:
            found[name] = known[name]
        elif name == IMAGE_SIZE:
            found[name] = {id: _short_side(paths[id]) for id in labels}
        else:
            found[name] = {id: _named(label).get(name) for id, label in labels.items()}
    return found


def unknown(names: Iterable[str], rows: Iterable[tuple[Values, Any]]) -> list[str]:
    """A sentence about each name that is no column and no field; ``rows`` are columns and label of each image."""
    known: dict[str, None] = {IMAGE_SIZE: None}
    for row, label in rows:
        known |= dict.fromkeys([*row, *_named(label)])
    faults = []
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"choose from {', '.join(list(known)[:MOST])}."
            faults.append(f"{name}, and no label has a column or a field of that name: {remedy}")
    return faults


def by_slice(values: Values, score: Mapping[str, Mapping[str, float]]) -> dict[str, Parts]:
    """The figure of each slice of each column, worst first; ``score`` has it for each side by image id."""
    return {
        column: worst_first(
            part(name, {side: [found[id] for id in ids] for side, found in score.items()})
            for name, ids in _cut(by_id).items()
        )
        for column, by_id in values.items()
    }


def by_field(labels: Values, answers: Mapping[str, Mapping[str, str]]) -> Parts:
    """The share of right values of each field of JSON labels, worst first; ``answers`` are those of each side.

    The entries of a list count as one field, of which an image has a share right. Numbers and dates are compared as
    such (``answers.values.same``).
    """
    right: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for id, label in labels.items():
        if not isinstance(label, dict | list):
            continue
        for side, given in answers.items():
            for name, marks in _marks(label, _parsed(given.get(id))).items():
                right[name or "the answer"][side].append(sum(marks) / len(marks))
    common = sorted(right, key=lambda name: -len(next(iter(right[name].values()))))[:MOST_FIELDS]
    return worst_first(part(_short(name), right[name]) for name in common)


def worst_first(parts: Iterable[Certainty]) -> Parts:
    """Parts by the figure of their last side, and those with too few images at the end."""
    return sorted(parts, key=lambda one: (one["images"] < FEWEST, _last(one)))


def size_note(part: Certainty) -> str:
    """The number of images of a part, and whether it says too little."""
    count = f"{part['images']:,} image{'' if part['images'] == 1 else 's'}"
    return count if part["images"] >= FEWEST else f"{count}: too few to say much"


def worst(slices: Mapping[str, Parts], whole: float) -> list[tuple[str, Certainty, bool]]:
    """The worst slices below the figure of all images, with their column, and whether that is more than chance.

    It is, if the figure of all images is above the slice's interval.
    """
    large = [(column, one) for column, parts in slices.items() for one in parts if one["images"] >= FEWEST]
    below = sorted((pair for pair in large if _last(pair[1]) < whole), key=lambda pair: _last(pair[1]))
    return [(column, one, list(one["intervals"].values())[-1][1] < whole) for column, one in below[:NAMED]]


def _last(part: Certainty) -> float:
    return float(list(part["figures"].values())[-1])


def _cut(by_id: Values) -> dict[str, list[str]]:
    """The ids of each slice by its name: of a value, or of a range of numbers."""
    numbers = {id: as_number(value) for id, value in by_id.items() if value is not None}
    cut: Callable[[Any], str] = _shown
    if None not in numbers.values() and len(set(numbers.values())) > MOST_NUMBERS:
        given = [number for number in numbers.values() if number is not None]
        cut = _ranges(given)
    named = {id: MISSING if value is None else cut(value) for id, value in by_id.items()}
    counts = Counter(named.values())
    kept = {name for name, _ in counts.most_common(MOST if len(counts) <= MOST else MOST - 1)}
    slices: dict[str, list[str]] = defaultdict(list)
    for id, name in named.items():
        slices[name if name in kept else OTHERS].append(id)
    return slices


def _ranges(numbers: Sequence[float]) -> Callable[[Any], str]:
    """A function from a number to the quarter of all ``numbers`` that it is in."""
    bounds = sorted({min(numbers), *quantiles(numbers, n=4, method="inclusive"), max(numbers)})
    names = [f"{low:,.6g} to {high:,.6g}" for low, high in pairwise(bounds)]

    def name(value: Any) -> str:
        number = as_number(value)
        return next(one for one, high in zip(names, bounds[1:], strict=False) if number is not None and number <= high)

    return name


def _marks(label: Any, answer: Any) -> dict[str, list[bool]]:
    """Whether each value is right, by the name of its field."""
    found = fields(answer)
    marks: dict[str, list[bool]] = defaultdict(list)
    for path, value in fields(label).items():
        name = ".".join("*" if isinstance(step, int) else step for step in path)
        marks[name].append(path in found and same(found[path], value))
    return marks


def _named(label: Any) -> dict[str, Any]:
    """The fields of a structured label by their names; an upper level has its whole content."""
    if not isinstance(label, dict | list):
        return {}
    named = {".".join(map(str, path)): value for path, value in fields(label).items() if path}
    return named | (label if isinstance(label, dict) else {})


def _parsed(answer: str | None) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(answer or "")
    return None


def _short_side(path: str) -> int | None:
    try:
        return min(upright_size(path))
    except ImageError:
        return None


def _shown(value: Any) -> str:
    return _short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) or '""'


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
