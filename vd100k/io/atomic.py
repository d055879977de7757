"""Files and links that are replaced as a whole: a reader, or a crash, sees the old content or the new one."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def replace(path: Path, lines: Iterable[bytes]) -> int:
    """Replace a file with these lines and return their number; the content is on the disk before it gets the name.

    Several processes may do so at the same moment, also on different machines: the file of the last one stays.

    Raises:
        OSError: it cannot be written; the file is unchanged.
    """
    # A random name, because processes in different containers can have the same id.
    scratch, count = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.tmp"), 0
    try:
        with scratch.open("xb") as file:
            for line in lines:
                file.write(line)
                count += 1
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return count


def write_json(path: Path, content: Any) -> None:
    """Replace a small JSON file; ``json.loads`` then returns the same content."""
    # Paths that are not UTF-8 contain lone surrogates; a backslash escape is how JSON writes them.
    replace(path, [json.dumps(content, ensure_ascii=False, indent=2).encode(errors="backslashreplace"), b"\n"])


def link(path: Path, target: Path) -> None:
    """Make ``path`` a symbolic link to the folder ``target``, instead of whatever link it was.

    Raises:
        OSError: the link cannot be made, or ``path`` is a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(target, target_is_directory=True)
    scratch.replace(path)


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder safe; some file systems do not support that, and then nothing more can be done."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
