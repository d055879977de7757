"""Images in a column of Parquet files: bytes, or Hugging Face's pair of bytes and path. They are read by row group."""

from __future__ import annotations

import bisect
import functools
import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pyarrow
from pyarrow import parquet

from vd100k.stores.urls import StoreError

GROUPS = 2  # row groups in memory: requests are about the images of one, then of the next
FILES = 16  # opened ones

_groups: OrderedDict[tuple[str, int, str, int], Any] = OrderedDict()
_reading = threading.Lock()


def names(path: str, column: str | None) -> Iterator[str]:
    """The names of the images in a file: the column, a slash, and the number of the row from 0.

    Raises:
        StoreError: the file is broken, or it is not clear which column has the images.
    """
    file, _ = _opened(path, os.stat(path).st_mtime_ns)
    found = _columns(file.schema_arrow)
    shown = ", ".join(file.schema_arrow.names[:20])
    if not found or (column and column not in found):
        wanted = f" {column}" if column else ""
        raise StoreError(f"no column{wanted} of images (bytes, or bytes and path) among {shown}")
    if len(found) > 1 and not column:
        raise StoreError(f"{', '.join(found)} are columns of images: choose one with images=FILE.parquet/{found[0]}")
    for row in range(file.metadata.num_rows):
        yield f"{column or found[0]}/{row}"


def count(path: str) -> int:
    """The number of rows.

    Raises:
        StoreError: the file is broken.
    """
    return int(_opened(path, os.stat(path).st_mtime_ns)[0].metadata.num_rows)


def read(path: str, name: str, facts: os.stat_result) -> bytes:
    """The image of a row.

    Raises:
        StoreError: there is no such row, it has no image, or the file is broken.
    """
    column, _, row = name.rpartition("/")
    with _reading:
        file, ends = _opened(path, facts.st_mtime_ns)
        if not row.isdecimal() or not ends or int(row) >= ends[-1]:
            raise StoreError("the Parquet file has no such row (any more)")
        group = bisect.bisect_right(ends, int(row))
        values = _group(file, path, facts.st_mtime_ns, column, group)
        found = values[int(row) - (ends[group - 1] if group else 0)].as_py()
    content = found.get("bytes") if isinstance(found, dict) else found
    if not content:
        other = found.get("path") if isinstance(found, dict) else None
        raise StoreError(f"the row names the file {other} instead of holding it" if other else "the row has no image")
    return bytes(content)


@functools.lru_cache(FILES)
def _opened(path: str, mtime_ns: int) -> tuple[Any, list[int]]:
    """A file and, for each of its row groups, the number of rows up to its end."""
    try:
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise StoreError(f"no Parquet file, or a broken one: {error}") from error
    sizes = (file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups))
    return file, list(itertools.accumulate(sizes))


def _group(file: Any, path: str, mtime_ns: int, column: str, group: int) -> Any:
    """The images of a row group."""
    key = path, mtime_ns, column, group
    if key not in _groups:
        while len(_groups) >= GROUPS:  # before another takes their memory
            _groups.popitem(last=False)
        try:
            _groups[key] = file.read_row_group(group, columns=[column]).column(0)
        except (pyarrow.ArrowException, OSError, IndexError) as error:
            raise StoreError(f"row group {group} of the Parquet file cannot be read: {error}") from error
    _groups.move_to_end(key)
    return _groups[key]


def _columns(schema: Any) -> list[str]:
    """The columns that hold images: those of bytes with a path; if there are none, those of bytes."""
    pairs = [field.name for field in schema if pyarrow.types.is_struct(field.type) and _has_bytes(field.type)]
    return pairs or [field.name for field in schema if _is_binary(field.type)]


def _has_bytes(struct: Any) -> bool:
    return any(field.name == "bytes" and _is_binary(field.type) for field in struct)


def _is_binary(kind: Any) -> bool:
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))
