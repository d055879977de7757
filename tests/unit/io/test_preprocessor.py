"""What the image processor of a checkpoint states about sizes, in every layout that is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vd100k.io.preprocessor import image_sizes

QWEN2 = {"patch_size": 14, "merge_size": 2, "min_pixels": 3136, "max_pixels": 12_845_056}
QWEN3 = {"patch_size": 16, "merge_size": 2, "size": {"shortest_edge": 65_536, "longest_edge": 16_777_216}}


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "sizes"),
    [
        (QWEN2, (28, 3136, 12_845_056)),
        (QWEN3, (32, 65_536, 16_777_216)),
        # As published with Qwen2-VL, and with the edges that newer versions add.
        (QWEN2 | {"size": {"min_pixels": 1, "max_pixels": 2}}, (28, 3136, 12_845_056)),
        (QWEN3 | {"max_pixels": 1_003_520}, (32, 65_536, 1_003_520)),
        ({"patch_size": 14, "merge_size": 2, "size": {"min_pixels": 784, "max_pixels": 1568}}, (28, 784, 1568)),
        ({"patch_size": 14, "merge_size": 2, "min_pixels": "many", "max_pixels": -1}, (28, None, None)),
    ],
)
def test_sizes_are_read_from_each_layout(tmp_path: Path, content: Any, sizes: tuple[int | None, ...]) -> None:
    write(tmp_path, "preprocessor_config.json", content)
    found = image_sizes(tmp_path)
    assert found
    assert (found.token_side, found.min_pixels, found.max_pixels) == sizes


def test_the_nested_file_of_newer_versions_is_preferred(tmp_path: Path) -> None:
    write(tmp_path, "preprocessor_config.json", QWEN2)
    write(tmp_path, "processor_config.json", {"processor_class": "Qwen3VLProcessor"})
    assert image_sizes(tmp_path).token_side == 28  # type: ignore[union-attr]
    write(tmp_path, "processor_config.json", {"image_processor": QWEN3})
    found = image_sizes(tmp_path)
    assert found
    assert (found.token_side, found.file.name) == (32, "processor_config.json")


@pytest.mark.parametrize("content", [[], {"patch_size": [14, 14]}, {"size": {"height": 448, "width": 448}}])
def test_another_kind_of_file_states_nothing(tmp_path: Path, content: Any) -> None:
    assert image_sizes(tmp_path) is None
    write(tmp_path, "preprocessor_config.json", content)
    assert image_sizes(tmp_path) is None
    (tmp_path / "preprocessor_config.json").write_bytes(b"\xff{")
    assert image_sizes(tmp_path) is None
