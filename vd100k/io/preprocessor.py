"""The sizes of images that a checkpoint states in its ``preprocessor_config.json``."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ImageSizes:
    """In pixels; None is what the checkpoint does not state. The bounds are of width x height."""

    file: Path
    token_side: int | None
    min_pixels: int | None
    max_pixels: int | None


def image_sizes(folder: Path) -> ImageSizes | None:
    """The sizes of a checkpoint whose images are cut into patches that are merged, as in the Qwen-VL families.

    As transformers does, this prefers the part ``image_processor`` of ``processor_config.json`` (newer versions write
    it) to ``preprocessor_config.json``, and ``min_pixels`` and ``max_pixels`` to the edges in ``size``, which are
    numbers of pixels too. Source: ``get_image_processor_dict`` in transformers' ``image_processing_base.py`` and
    ``Qwen2VLImageProcessor``. A file that is missing or broken states nothing.
    """
    file = folder / "processor_config.json"
    content = _content(file).get("image_processor")
    if not isinstance(content, dict):
        file = folder / "preprocessor_config.json"
        content = _content(file)
    size = content.get("size")
    edges: dict[str, Any] = size if isinstance(size, dict) else {}
    patch, merge = _count(content.get("patch_size")), _count(content.get("merge_size"))
    if not patch or not merge:
        return None
    least = content.get("min_pixels") or edges.get("shortest_edge") or edges.get("min_pixels")
    most = content.get("max_pixels") or edges.get("longest_edge") or edges.get("max_pixels")
    return ImageSizes(file, patch * merge, _count(least), _count(most))


def _content(file: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads(file.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
