"""The files of the tiny models: small, complete, and readable by the usual libraries."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vd100k.tiny import checkpoint, lessons, manifests, scenes


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    checkpoint.save_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(checkpoint.config()), encoding="utf-8")
    return AutoTokenizer.from_pretrained(folder)


def test_the_tokenizer_restores_any_text(tokenizer) -> None:  # type: ignore[no-untyped-def]
    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])))
    def restores(text: str) -> None:
        import unicodedata

        if "<|" in text:
            return
        ids = tokenizer.encode(text)
        assert bytes(ids) == unicodedata.normalize("NFC", text).encode()
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == unicodedata.normalize("NFC", text)

    restores()


def test_special_tokens_have_qwens_ids(tokenizer) -> None:  # type: ignore[no-untyped-def]
    assert tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|vision_start|>", "<|image_pad|>"]) == [
        151645,
        151652,
        151655,
    ]
    assert tokenizer.eos_token_id == 151645


def test_the_chat_template_is_qwens(tokenizer) -> None:  # type: ignore[no-untyped-def]
    content = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "Hi"}]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    assert text == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Hi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_stored_weights_are_small_and_unpack_to_a_full_checkpoint(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    assert sum(path.stat().st_size for path in checkpoint.HERE.glob("*.safetensors")) < 6_000_000
    checkpoint.unpack("teacher", tmp_path)
    whole = load_file(tmp_path / "model.safetensors")
    embedding = whole["model.embed_tokens.weight"]
    used = np.abs(embedding).max(axis=1) > 0
    assert embedding.shape == (151936, 128)
    assert set(np.flatnonzero(used)) <= set(checkpoint.ROWS)
    assert sum(tensor.size for name, tensor in whole.items() if "embed_tokens" not in name) > 1_000_000


def test_the_error_of_packing_is_less_than_one_step_of_each_rows_scale(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensor = rng.normal(size=(8, 16)).astype(np.float32)
    checkpoint.pack({"w": tensor}, tmp_path / "w.safetensors")
    from safetensors.numpy import load_file

    kept = load_file(tmp_path / "w.safetensors")
    again = kept["w"].astype(np.float32) * kept["w.scale"][:, None]
    assert (np.abs(again - tensor) <= kept["w.scale"][:, None] * 0.51).all()


def test_the_student_learns_every_character_of_the_target_format_but_not_the_format() -> None:
    rng = random.Random(0)
    taught = set()
    for _ in range(3000):
        _, scene = scenes.draw(rng)
        question, answer = lessons.lesson(scene, rng)
        taught.add(answer)
        assert question != lessons.JSON_QUESTION
        assert answer != lessons.json_lesson(scene)[1]
    characters = set("".join(taught))
    for _ in range(50):
        assert set(lessons.json_lesson(scenes.draw(rng)[1])[1]) <= characters


@pytest.mark.parametrize("draw", [scenes.draw, manifests.draw])
def test_pictures_are_determined_by_the_seed(draw: Callable[[random.Random], tuple[Image.Image, object]]) -> None:
    def render(seed: int) -> list[tuple[Image.Image, object]]:
        rng = random.Random(seed)
        return [draw(rng) for _ in range(3)]

    first, second, other = (render(seed) for seed in (1, 1, 2))
    assert [label for _, label in first] == [label for _, label in second]
    assert all(a.tobytes() == b.tobytes() for (a, _), (b, _) in zip(first, second, strict=True))
    assert first[0][0].tobytes() != other[0][0].tobytes()


def test_several_processes_make_one_folder_and_others_see_only_whole_files(tmp_path: Path) -> None:
    folder = tmp_path / "models/tiny"
    command = [sys.executable, "-m", "vd100k.tiny", "student", str(folder)]

    def sizes() -> frozenset[tuple[str, int]]:
        return frozenset((path.name, path.stat().st_size) for path in folder.iterdir())

    running, seen = [subprocess.Popen(command) for _ in range(2)], set()
    while any(one.poll() is None for one in running):
        if folder.exists():
            seen.add(sizes())
            if len(running) == 2:
                running.append(subprocess.Popen(command))
    assert [one.wait() for one in running] == [0, 0, 0]
    assert seen == {sizes()}
    assert list(folder.parent.iterdir()) == [folder]
