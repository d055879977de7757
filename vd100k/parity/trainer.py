"""What ms-swift trains on: a program that encodes rows with the template of a training command, without training.

    python -m vd100k.parity.trainer JOB.json

The job names the ``argv`` of ``swift sft`` or ``swift rlhf``, the JSONL file of the ``rows``, the folder ``out`` for
the results, and the folder or name of the ``served`` model, whose stop tokens are looked up. Environment variables are
those of the command. The options are parsed by ms-swift's own classes, and rows pass through its own preprocessor.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vd100k.parity import pixels

RESULT = "trained.json"
COLOURS = 3
PAIR = ["chosen_", "rejected_"]  # what ms-swift writes in front of the names of both answers of a preference pair


def load(kind: type, argv: list[str], mode: str) -> tuple[Any, Any, Any]:
    """ms-swift's arguments of a ``kind`` of command, its processor without the weights, and its template in a mode.

    Raises:
        ValueError: it does not know some of the options.
    """
    from swift.utils import parse_args

    args, unknown = parse_args(kind, argv)
    if unknown:
        raise ValueError(f"ms-swift does not know these options: {' '.join(unknown)}")
    _, processor = args.get_model_processor(load_model=False)
    template = args.get_template(processor)
    template.set_mode(mode)
    return args, processor, template


class Encoder:
    """ms-swift's template for a training command."""

    def __init__(self, argv: list[str]) -> None:
        from swift.arguments import RLHFArguments, SftArguments

        pairs = argv[0] == "rlhf"
        kind, mode = (RLHFArguments, "rlhf") if pairs else (SftArguments, "train")
        self._parts = PAIR if pairs else [""]
        self.args, self.processor, self.template = load(kind, argv[1:], mode)

    def encode(self, row: dict[str, Any], images: Path) -> list[dict[str, Any]]:
        """The token ids, labels and image grids of a row, and of a preference pair those with its worse answer too.

        The images of the first are written to ``images`` (.npz).
        """
        try:
            encoded = self.template.encode(self._preprocessed(row))
        except Exception as error:  # whatever makes ms-swift drop the row, or end the training
            return [{"error": f"{type(error).__name__}: {error}"}]
        first, *others = (
            {name.removeprefix(part): value for name, value in encoded.items() if name.startswith(part)}
            for part in self._parts
        )
        found = grids(first.get("image_grid_thw"))
        shown = self._images(first.get("pixel_values"), found)
        if shown:
            np.savez(images, *shown)
        return [{**_view(first), "images": len(shown)}, *({**_view(other), "images": 0} for other in others)]

    def facts(self) -> dict[str, Any]:
        """The sizes of patches and the id of an image token; nothing for a model whose patches have no fixed size."""
        processor = getattr(self.processor, "image_processor", None)
        names = {"patch": "patch_size", "merge": "merge_size", "frames": "temporal_patch_size"}
        found = {key: getattr(processor, name, None) for key, name in names.items()}
        if not all(isinstance(value, int) for value in found.values()):
            return {}
        return {**found, "pad": getattr(self.template, "image_token_id", None)}

    def _preprocessed(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as ms-swift's loader of data sets changes it."""
        from datasets import Dataset
        from swift.dataset.preprocessor import AutoPreprocessor, RowPreprocessor

        kept = RowPreprocessor.safe_rename_columns(Dataset.from_list([row]), self.args.columns)
        loaded = AutoPreprocessor()(kept, num_proc=1, load_from_cache_file=False, strict=True)
        found: dict[str, Any] = RowPreprocessor.remove_useless_columns(loaded)[0]
        return found

    def _images(self, values: Any, found: list[pixels.Grid]) -> list[pixels.Pixels]:
        """The images out of normalised patches; none if the model has no patches of one size."""
        facts = self.facts()
        if values is None or not facts or not found:
            return []
        del facts["pad"]
        parts = split(as_bytes(values, self.processor), found)
        return [pixels.from_patches(part, grid, **facts) for part, grid in zip(parts, found, strict=True)]


def _view(encoded: dict[str, Any]) -> dict[str, Any]:
    grid = grids(encoded.get("image_grid_thw"))
    return {"ids": encoded["input_ids"], "labels": encoded["labels"], "grids": grid}


def as_bytes(values: Any, processor: Any) -> NDArray[np.uint8]:
    """Patches as they were before they were normalised, from 0 to 255; a row for each, its channels first."""
    shape = (1, COLOURS, 1)
    mean, std = (
        np.reshape(one, shape) for one in (processor.image_processor.image_mean, processor.image_processor.image_std)
    )
    patches = values.float().numpy().reshape(len(values), COLOURS, -1) * std + mean
    flat: NDArray[np.uint8] = np.clip(np.rint(patches * 255), 0, 255).astype(np.uint8)
    return flat.reshape(len(values), -1)


def split(flat: NDArray[np.uint8], found: list[pixels.Grid]) -> list[NDArray[np.uint8]]:
    """The patches of each image."""
    return np.split(flat, np.cumsum([frames * rows * columns for frames, rows, columns in found])[:-1])


def stops(model: str) -> list[int]:
    """The tokens at which a server of this model ends an answer: that of the tokenizer, and the configured ones."""
    from transformers import AutoTokenizer, GenerationConfig

    found = {AutoTokenizer.from_pretrained(model).eos_token_id}
    try:
        configured = GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:  # the model has no generation_config.json
        configured = None
    found |= set(configured if isinstance(configured, list) else [configured])
    return sorted(token for token in found if token is not None)


def grids(tensor: Any) -> list[pixels.Grid]:
    """The grid of each image; none without images."""
    return [] if tensor is None else [(frames, rows, columns) for frames, rows, columns in tensor.tolist()]


def main(path: Path) -> None:
    from vd100k.io.jsonl import read_rows

    job = json.loads(path.read_text(encoding="utf-8"))
    out = Path(job["out"])
    encoder = Encoder(job["argv"])
    rows = [encoder.encode(row, out / f"{k}.npz") for k, row in enumerate(read_rows(Path(job["rows"])))]
    served = encoder.args.model_dir if job["served"] == job["base"] else job["served"]
    result = {"rows": rows, "stops": stops(served), **encoder.facts()}
    (out / RESULT).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
