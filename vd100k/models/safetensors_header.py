"""The tensors in a safetensors file, read without the library, which may be installed only for the engine.

Source: the description of the format, https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

MAX_HEADER = 100_000_000  # bytes, the limit of the library


class Tensor(NamedTuple):
    """The number type of a tensor (F32, BF16, …) and its first byte and end in the file, in bytes."""

    dtype: str
    begin: int
    end: int


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Raises:
        ValueError: the file is not in the safetensors format, or it is truncated.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= length <= MAX_HEADER:
            raise ValueError("the safetensors header is missing")
        try:
            described = json.loads(file.read(length))
            described.pop("__metadata__", None)
            found = {name: _tensor(8 + length, fields) for name, fields in described.items()}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise ValueError("the header cannot be read") from error
    wanted = max((tensor.end for tensor in found.values()), default=8 + length)
    if size != wanted:
        raise ValueError(f"the file has {size:,} bytes, but {wanted:,} are expected from its header")
    return found


def _tensor(start: int, fields: dict[str, Any]) -> Tensor:
    begin, end = fields["data_offsets"]
    return Tensor(str(fields["dtype"]), start + int(begin), start + int(end))
