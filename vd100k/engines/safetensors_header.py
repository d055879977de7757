"""What a safetensors file holds, without its library: the interpreter that has that may be the engine's, not this one.

Source: the format's own description, https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

LONGEST_HEADER = 100_000_000  # bytes, as the library has it


class Tensor(NamedTuple):
    """Its type (F32, BF16), and where it begins and ends in the file, in bytes."""

    dtype: str
    begin: int
    end: int


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    Raises:
        ValueError: it is no such file, or cut off.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= length <= LONGEST_HEADER:
            raise ValueError("no header of safetensors")
        try:
            described = json.loads(file.read(length))
            described.pop("__metadata__", None)
            found = {name: _tensor(8 + length, fields) for name, fields in described.items()}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise ValueError("its header cannot be read") from error
    wanted = max((tensor.end for tensor in found.values()), default=8 + length)
    if size != wanted:
        raise ValueError(f"{size:,} bytes, and its header speaks of {wanted:,}")
    return found


def _tensor(start: int, fields: dict[str, Any]) -> Tensor:
    begin, end = fields["data_offsets"]
    return Tensor(str(fields["dtype"]), start + int(begin), start + int(end))
