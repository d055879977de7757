"""Why a row is trained on as something else than it is served: one function for each cause, with its remedy.

Each function looks for one cause and returns None if it is not there. Those about images exclude each other and are
tried in turn, as are those about the text; so one difference has one cause, and a row can have several.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vd100k.parity import pixels
from vd100k.parity.sample import UPRIGHT
from vd100k.parity.views import Case

SYSTEM = re.compile(r"<\|im_start\|>system\n(.*?)<\|im_end\|>\n?", re.DOTALL)  # ChatML, as all Qwens have it
TAGS = re.compile(r"<image>|<ref-object>|<bbox>")
SHOWN = 60  # characters of a text in a message
AROUND = 25  # characters before the first difference


@dataclass(frozen=True)
class Cause:
    """A cause: its name, which is the same for all rows, what differs in this row, and what to do."""

    name: str
    text: str
    remedy: str


Find = Callable[[Case], Cause | None]


def causes(case: Case) -> list[Cause]:
    """Every cause of a difference; empty if the row is trained on as it is served."""
    if refused := _refused(case):
        return [refused]
    return list(_found(case))


def _found(case: Case) -> Iterator[Cause]:
    about_text = () if case.is_text_alike else ABOUT_TEXT
    for finds in (ABOUT_IMAGES, about_text, (_stop_token,)):
        cause = next((found for find in finds if (found := find(case))), None)
        if cause:
            yield cause


def _refused(case: Case) -> Cause | None:
    """One of the two sides does not take the row at all."""
    if case.trained.error and case.served.error:
        return Cause(
            "refused by both",
            f"neither trains nor serves it: {case.trained.error}; {case.served.error}",
            "Remove the row, or raise max_length and hardware.max_model_len if it is too long.",
        )
    if case.trained.error:
        return Cause(
            "refused by the trainer",
            f"ms-swift refuses the row: {case.trained.error}",
            "If the row is too long, set max_length higher or model.max_pixels lower, and convert again.",
        )
    if case.served.error:
        return Cause(
            "refused by the server",
            f"the server refuses the request: {case.served.error}",
            "If the prompt is too long, set hardware.max_model_len higher or model.max_pixels lower; if it has too "
            "many images, set model.images_per_prompt.",
        )
    return None


def _number_of_images(case: Case) -> Cause | None:
    trained, served = len(case.trained.grids), len(case.served.grids)
    if trained == served:
        return None
    return Cause(
        "number of images",
        f"images: trained with {trained}, served with {served}",
        "Check that the row names its images under the key images, and that the ids of the image tokens in the model's "
        "tokenizer are those of its family, because ms-swift's template looks for these.",
    )


def _image_order(case: Case) -> Cause | None:
    order = [_same(case, k) for k in range(len(case.trained.images))]
    if not order or None in order or len(set(order)) < len(order) or order == list(range(len(order))):
        return None
    told = ", ".join(str(k + 1) for k in order if k is not None)
    return Cause(
        "order of the images",
        f"order of the images: trained as {told} of the images that are served",
        "Check what reorders the images of a row: a preprocessor of data sets (external_plugins), or another version "
        "of ms-swift.",
    )


def _same(case: Case, k: int) -> int | None:
    """The number of the served image that is the ``k``-th trained one; its own number if that is one of them."""
    trained, served = case.trained.images[k], case.served.images
    same = [j for j, image in enumerate(served) if pixels.alike(trained, image, case.patch)]
    return k if k in same else same[0] if len(same) == 1 else None


def _turned(case: Case) -> Cause | None:
    """An image lies in another direction: seen in its grid if it is not square, else in its pixels alone."""
    for k, (trained, served) in enumerate(zip(case.trained.images, case.served.images, strict=False)):
        if pixels.alike(trained, served, case.patch):
            continue
        for name, turned in pixels.orientations(trained):
            if pixels.alike(turned, served, case.patch):
                file = case.files[k] if k < len(case.files) else None
                tag = f", which has the EXIF orientation {file.orientation}," if file else ""
                sizes = f" ({_size(case.trained.grids[k])} trained, {_size(case.served.grids[k])} served)"
                return Cause(
                    "EXIF orientation" if file and file.orientation != UPRIGHT else "orientation",
                    f"image {k + 1}{tag} is served {name} compared with training{sizes}",
                    "ms-swift does not turn a photo by its EXIF tag, and servers do. Run stage=convert, which writes "
                    "upright copies of such photos for training.",
                )
    return None


def _image_size(case: Case) -> Cause | None:
    for k, (trained, served) in enumerate(zip(case.trained.grids, case.served.grids, strict=False)):
        if trained != served:
            option = _option(case, k)
            sizes = f"{_size(trained)} patches trained, {_size(served)} served"
            if option is None:
                return Cause(
                    "image size",
                    f"image size: {sizes}",
                    "Compare preprocessor_config.json of the model that is trained with that of the model that is "
                    "served.",
                )
            rule = "reduced" if option == "max_pixels" else "enlarged"
            return Cause(
                option,
                f"image size: {sizes}: {option} is applied differently (images are {rule} to it)",
                f"Training reads {option.upper()} from its environment and the server mm_processor_kwargs; "
                "model.max_pixels sets both to one value. Remove the option or the variable that changes one of them.",
            )
    return None


def _option(case: Case, k: int) -> str | None:
    """Which bound makes the sizes of an image differ, by what its own size becomes without any bound."""
    file = case.files[k] if k < len(case.files) else None
    if file is None:
        return None
    sides = [max(1, round(side / case.token)) for side in (file.height, file.width)]
    natural = sides[0] * sides[1]
    areas = [
        grid[1] * grid[2] * case.patch**2 // case.token**2 for grid in (case.trained.grids[k], case.served.grids[k])
    ]
    if min(areas) < natural:
        return "max_pixels"
    return "min_pixels" if max(areas) > natural else None


def _pixels(case: Case) -> Cause | None:
    for k, (trained, served) in enumerate(zip(case.trained.images, case.served.images, strict=False)):
        if trained.shape != served.shape or pixels.alike(trained, served, case.patch):
            continue
        mean = pixels.difference(trained, served)
        return Cause(
            "pixels",
            f"image {k + 1} has other pixels: they differ by {mean:.1f} of 255 on average",
            "Compare how each side decodes the file: its colour space, transparency, and the first of several frames. "
            "Run stage=convert, which writes plain copies of such images for training.",
        )
    return None


def _system_prompt(case: Case) -> Cause | None:
    trained, served = (SYSTEM.match(text) for text in case.texts)
    if (trained and trained[1]) == (served and served[1]) or not (trained or served):
        return None
    if not all(text.startswith("<|im_start|>") for text in case.texts):
        return None  # another template, which has no such part
    told = [f"“{_clip(found[1])}”" if found else "none" for found in (trained, served)]
    return Cause(
        "system prompt",
        f"system prompt: trained with {told[0]}, served with {told[1]}",
        "Rows are trained with task.system_prompt, or with the key system if that is not set; clients send "
        "task.system_prompt, and without it the model's chat template decides. Set task.system_prompt to one text and "
        "convert again.",
    )


def _chat_template(case: Case) -> Cause | None:
    trained, served = (_frame(case, text) for text in case.texts)
    if trained == served:
        return None
    shown = _first_difference(trained, served)
    return Cause(
        "chat template",
        f"chat template: trained with “{shown[0]}”, served with “{shown[1]}”",
        "Compare model.template, ms-swift's name of the template, with chat_template of the model that is served.",
    )


def _frame(case: Case, text: str) -> str:
    """A chat without its system prompt and without the texts of its row: what the template has written."""
    frame = SYSTEM.sub("", text, count=1)
    for message in case.row.get("messages", []):
        pieces = TAGS.split(str(message["content"])) if message["role"] != "system" else []
        for piece in filter(str.strip, pieces):
            frame = frame.replace(piece.strip(), "…", 1)
    return frame


def _first_tokens(case: Case) -> Cause | None:
    """Whatever else differs: the first token that does."""
    trained, served = case.texts
    if trained == served:
        return _boundary(case)
    ours, theirs = (case.texts_of(ids) for ids in (case.trained.ids, case.served.whole or case.served.prompts[-1]))
    number = next(
        (k for k, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    shown = _first_difference(trained, served)
    return Cause(
        "tokens",
        f"first difference at token {number + 1}, image tokens left out: trained “{shown[0]}”, served “{shown[1]}”",
        "Compare the row with the request that clients send, and the tokenizers of the two models.",
    )


def _boundary(case: Case) -> Cause | None:
    """The same text is cut into prompt and answer, or into tokens, in another way."""
    begins, lengths = (list(map(len, ids)) for ids in (case.begins, case.asked))
    if begins and begins == lengths:
        return Cause(
            "tokens",
            "the same text becomes other tokens in training than in serving",
            "Compare the tokenizers of the model that is trained and of the model that is served.",
        )
    return Cause(
        "start of the answer",
        f"start of the answer: training begins it after {begins or 'no'} tokens, the server after {lengths}",
        "Compare what ms-swift's template puts before an answer (response_prefix, enable_thinking) with the chat "
        "template of the model that is served.",
    )


def _stop_token(case: Case) -> Cause | None:
    """The last answer is not trained to end with a token at which the server stops, so answers would not end."""
    answers = case.trained.answers()
    if not answers or not case.stops:
        return None
    begin, end = answers[-1]
    if set(case.trained.ids[begin:end]).intersection(case.stops):
        return None
    stops = " or ".join(f"“{case.text([token])}”" for token in case.stops)
    return Cause(
        "stop token",
        f"stop token: the trained answer ends with “{_clip(case.end, last=True)}”, the server stops at {stops}",
        "Set eos_token_id in generation_config.json, or eos_token in tokenizer_config.json, of the model that is "
        "served to the token that ends a trained answer.",
    )


ABOUT_IMAGES: tuple[Find, ...] = (_number_of_images, _image_order, _turned, _image_size, _pixels)
ABOUT_TEXT: tuple[Find, ...] = (_system_prompt, _chat_template, _first_tokens)


def _size(grid: pixels.Grid) -> str:
    return f"{grid[1]}×{grid[2]}"


def _first_difference(one: str, other: str) -> tuple[str, str]:
    """Both texts around the first character that differs."""
    at = next(
        (k for k, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(map(len, (one, other)))
    )
    begin = max(0, at - AROUND)
    return _clip(one[begin:]), _clip(other[begin:])


def _clip(text: str, last: bool = False) -> str:
    """A text in one line, cut to what a message can show: its beginning, or its end."""
    line = text.replace("\n", "⏎")
    if len(line) <= SHOWN:
        return line
    return f"…{line[-SHOWN:]}" if last else f"{line[:SHOWN]}…"
