"""Write files of records, which are given as lines of JSON; a file gets its final name only when it is complete."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from vd100k.io import fingerprint, jsonl

Record = dict[str, Any]
BUFFER = 1 << 20  # bytes
GROUP_BYTES = 64 << 20  # images in one Parquet row group; a reader holds one group in memory
SHARD_BYTES = 500 << 20  # file size recommended by the Hugging Face hub


class Writer(Protocol):
    """Receives records. Leaving the ``with`` block without an exception completes the files, else discards them."""

    records: int

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None: ...

    def write(self, lines: bytes, records: int) -> None:
        """Add so many records, one in each line."""

    def files(self) -> list[dict[str, Any]]:
        """The path, number of rows and sha256 of each file written."""


class JsonWriter:
    """Writes JSONL, or, with ``array``, a JSON array with one record per line; omits an ``optional`` file if empty."""

    def __init__(self, path: Path, array: bool = False, optional: bool = False) -> None:
        self.path, self.records = path, 0
        self._array, self._optional = array, optional
        self._scratch = path.with_name(f"{path.name}.tmp")
        self._digest = hashlib.sha256()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._scratch.open("wb", buffering=BUFFER)
        if self._array:
            self._add(b"[\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is None:
            if self._array:
                self._add(b"\n]\n")
            self._file.close()
            self._scratch.replace(self.path)
            if self._optional and not self.records:
                self.path.unlink()
        else:
            with contextlib.suppress(OSError):  # on a full disk, closing fails as well
                self._file.close()
            self._scratch.unlink(missing_ok=True)

    def write(self, lines: bytes, records: int) -> None:
        if self._array and records:  # JSON has no line break within a record
            lines = (b",\n" if self.records else b"") + lines[:-1].replace(b"\n", b",\n")
        self._add(lines)
        self.records += records

    def _add(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)

    def files(self) -> list[dict[str, Any]]:
        if self._optional and not self.records:
            return []
        return [{"path": str(self.path), "rows": self.records, "sha256": self._digest.hexdigest()}]


class ParquetWriter:
    """Writes ``<split>-00000.parquet`` and so on in ``folder``, with the images inside the files."""

    def __init__(self, folder: Path, pairs: bool, options: bool, groups: bool, split: str) -> None:
        self.folder, self.split, self.records = folder, split, 0
        self._groups = groups
        self._texts = ["id", "question", *(["choiceA", "choiceB", "choiceC", "choiceD"] if options else []), "answer"]
        self._texts += [*(["rejected"] if pairs else []), "model", "system"]
        self._shards: list[tuple[Path, int]] = []

    def __enter__(self) -> Self:
        import datasets

        self.folder.mkdir(parents=True, exist_ok=True)
        text = datasets.Value("string")
        features = dict.fromkeys(self._texts, text)
        # The metadata of the schema tells load_dataset that the column contains images.
        image = datasets.Image()
        images = {"images": datasets.List(image)} if self._groups else {"image": image}
        self._schema = datasets.Features({**images, **features}).arrow_schema
        self._group: list[Record] = []
        self._group_bytes = self._shard_bytes = self._shard_rows = 0
        self._writer: Any = None
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is None:
            self._flush()
        if kind is not None:
            with contextlib.suppress(Exception):  # the first error explains more
                self._end_shard()
            for path, _rows in self._shards:
                path.unlink(missing_ok=True)
            return
        self._end_shard()
        for old in self.folder.glob(f"{self.split}-*.parquet"):
            old.unlink()
        self._shards = [(path.replace(path.with_suffix("")), rows) for path, rows in self._shards]

    def write(self, lines: bytes, records: int) -> None:
        for _, record in jsonl.parse_lines(lines):
            self._write(record)  # type: ignore[arg-type]

    def _write(self, record: Record) -> None:
        texts = {name: str(record.get(name, "")) for name in self._texts}
        if self._groups:
            images = [{"bytes": Path(path).read_bytes(), "path": Path(path).name} for path in record["images"]]
            self._group.append({"images": images, **texts})
        else:
            images = [{"bytes": Path(record["image"]).read_bytes(), "path": record["id"].rsplit("/", 1)[-1]}]
            self._group.append({"image": images[0], **texts})
        self._group_bytes += sum(len(image["bytes"]) for image in images)
        self.records += 1
        if self._group_bytes >= GROUP_BYTES or len(self._group) >= 1000:
            self._flush()

    def files(self) -> list[dict[str, Any]]:
        return [{"path": str(p), "rows": rows, "sha256": fingerprint.of_file(p)} for p, rows in self._shards]

    def _flush(self) -> None:
        import pyarrow
        from pyarrow import parquet

        if self._group:
            if self._writer is None:
                path = self.folder / f"{self.split}-{len(self._shards):05d}.parquet.tmp"
                self._shards.append((path, 0))
                self._writer = parquet.ParquetWriter(path, self._schema)
            self._writer.write_table(pyarrow.Table.from_pylist(self._group, schema=self._schema))
            self._shard_bytes += self._group_bytes
            self._shard_rows += len(self._group)
            self._group, self._group_bytes = [], 0
        if self._shard_bytes >= SHARD_BYTES:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._shards[-1] = (self._shards[-1][0], self._shard_rows)
            self._writer, self._shard_bytes, self._shard_rows = None, 0, 0
