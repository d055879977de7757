"""Each cause is found in a row that has it alone, and none in a row that is trained on as it is served."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vd100k.parity.causes import causes
from vd100k.parity.sample import ImageFacts
from vd100k.parity.views import IGNORED, Case, Served, Trained

PAD, STOP, PATCH, TOKEN = 7, 9, 14, 28
SYSTEM = "<|im_start|>system\nBe brief.<|im_end|>\n"
CHAT = SYSTEM + "<|im_start|>user\n<|image_pad|>Which?<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n"
ROW = {"messages": [{"role": "user", "content": "<image>Which?"}, {"role": "assistant", "content": "A cat."}]}


def image(seed: int = 0, rows: int = 4, columns: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows * PATCH, columns * PATCH, 3), dtype=np.uint8)


def case(**changes: object) -> Case:
    """A row with one image of 56 x 56 pixels: four image tokens, a prompt of seven tokens, an answer of three."""
    ids = [1, 2, PAD, PAD, PAD, PAD, 3, 4, 5, STOP]
    labels = [*[IGNORED] * 7, 4, 5, STOP]
    trained = Trained(ids, labels, [(1, 4, 4)], [image()])
    served = Served([ids[:7]], ids, [(1, 4, 4)], [image()])
    whole = Case(ROW, trained, served, lambda ids: CHAT, [STOP], [], PATCH, TOKEN, PAD)
    return replace(whole, files=[ImageFacts(56, 56)], **changes)  # type: ignore[arg-type]


def names(one: Case) -> list[str]:
    return [cause.name for cause in causes(one)]


def with_image(trained: np.ndarray, served: np.ndarray, **facts: int) -> Case:
    """The row with these images, and grids of their sizes."""
    one = case()
    grids = [[(1, pixels.shape[0] // PATCH, pixels.shape[1] // PATCH)] for pixels in (trained, served)]
    return replace(
        one,
        trained=replace(one.trained, images=[trained], grids=grids[0]),
        served=replace(one.served, images=[served], grids=grids[1]),
        files=[ImageFacts(**{"width": 56, "height": 56, **facts})],
    )


def with_text(trained: str, served: str) -> Case:
    """The row with these texts; one token stands for what differs."""
    one = case(text=lambda ids: served if ids[0] == 0 else trained)
    ids = [0, *one.trained.ids[1:]]
    return replace(one, served=replace(one.served, whole=ids, prompts=[ids[:7]]))


def test_a_row_that_is_trained_on_as_it_is_served_has_no_cause() -> None:
    assert causes(case()) == []


def test_the_number_of_image_tokens_is_not_a_cause_of_its_own() -> None:
    one = with_image(image(0, 4, 4), image(0, 2, 4), width=400, height=400)
    fewer = [1, 2, PAD, PAD, 3, 4, 5, STOP]
    assert names(replace(one, served=replace(one.served, whole=fewer, prompts=[fewer[:5]]))) == ["max_pixels"]


@pytest.mark.parametrize(
    ("size", "name"),
    [((400, 400), "max_pixels"), ((20, 20), "min_pixels"), ((60, 50), "max_pixels")],
)
def test_a_size_differs_by_the_bound_that_is_applied_differently(size: tuple[int, int], name: str) -> None:
    one = with_image(image(0, 4, 4), image(0, 2, 2), width=size[0], height=size[1])
    assert names(one) == [name]
    assert "4×4 patches trained, 2×2 served" in causes(one)[0].text


def test_an_image_turned_by_exif_is_found_by_its_pixels_if_it_is_square() -> None:
    square, wide = image(1), image(2, 2, 4)
    for pixels in (square, wide):
        turned = np.ascontiguousarray(np.rot90(pixels, -1))
        assert names(with_image(pixels, turned, orientation=6)) == ["EXIF orientation"]
        assert names(with_image(pixels, turned)) == ["orientation"], "the file has no such tag"


def test_images_in_another_order_are_found_by_their_pixels() -> None:
    one, images, grids = case(), [image(1), image(2), image(3)], [(1, 4, 4)] * 3
    swapped = replace(
        one,
        trained=replace(one.trained, images=[images[k] for k in (1, 0, 2)], grids=grids),
        served=replace(one.served, images=images, grids=grids),
        files=[ImageFacts(56, 56)] * 3,
    )
    assert names(swapped) == ["order of the images"]
    assert "trained as 2, 1, 3 of the images" in causes(swapped)[0].text


def test_other_pixels_and_missing_images_are_causes() -> None:
    assert names(with_image(image(1), image(2))) == ["pixels"]
    one = case()
    assert names(replace(one, trained=replace(one.trained, images=[], grids=[]))) == ["number of images"]


def test_a_system_prompt_is_told_from_a_chat_template() -> None:
    other, none = CHAT.replace("Be brief.", "Be a cat!"), CHAT.removeprefix(SYSTEM)
    [found] = causes(with_text(CHAT, other))
    assert found.text == "system prompt: trained with “Be brief.”, served with “Be a cat!”"
    [found] = causes(with_text(CHAT, none))
    assert found.text.endswith("served with none")
    assert names(with_text(CHAT, CHAT.replace("user\n", "human: "))) == ["chat template"]
    assert names(with_text("Which?A cat.", CHAT)) == ["chat template"]
    assert names(with_text(CHAT, CHAT.replace("Which?", "Which ?"))) == ["chat template"]


def test_the_same_text_in_other_tokens_is_a_cause() -> None:
    assert names(with_text(CHAT, CHAT)) == ["tokens"]


def test_an_answer_that_begins_elsewhere_is_a_cause() -> None:
    one = case()
    later = replace(one.trained, labels=[*[IGNORED] * 8, 5, STOP])
    assert names(replace(one, trained=later)) == ["start of the answer"]


def test_an_answer_without_a_stop_token_is_a_cause() -> None:
    texts = {(4, 5, STOP): "A cat.<|im_end|>", (8,): "<|endoftext|>"}
    [found] = causes(case(stops=[8], text=lambda ids: texts[tuple(ids)]))
    assert found.name == "stop token"
    assert "ends with “A cat.<|im_end|>”, the server stops at “<|endoftext|>”" in found.text


def test_a_row_that_is_refused_has_no_other_cause() -> None:
    long = Trained(error="MaxLengthError: too long")
    assert names(case(trained=long)) == ["refused by the trainer"]
    assert names(case(served=Served(error="too many images"))) == ["refused by the server"]
    assert names(case(trained=long, served=Served(error="no"))) == ["refused by both"]
