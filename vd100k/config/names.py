"""Names that become parts of paths stay within their folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

# Not "..", no hidden file, no separator of paths, no control character.
NAME = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*")
LONGEST = 180  # bytes; most file systems allow 255, and endings such as .failures.jsonl are added


def check_names(names: Mapping[str, str | None]) -> Iterator[str]:
    """A sentence about each name that cannot be that of a file or folder, by key."""
    for key, name in names.items():
        if name is not None and not (NAME.fullmatch(name) and len(os.fsencode(name)) <= LONGEST):
            yield (
                f"{key}={name[:LONGEST]!r} becomes the name of a file or folder: choose a name without / and \\, "
                f"that does not begin with a dot, of at most {LONGEST} bytes"
            )
