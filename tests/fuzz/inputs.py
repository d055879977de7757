"""Strategies for input that other programs and people make: valid examples with random damage."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
# Bytes that parsers care about, besides random ones.
PIECES = st.sampled_from([b"\0", b"\n", b'"', b"{", b"}", b"[", b"\\", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"1e999"])
EDITS = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 8), PIECES | st.binary(max_size=8)), max_size=6)


@st.composite
def damaged(draw: st.DrawFn, *examples: bytes) -> bytes:
    """One of the examples after a few random replacements, insertions and deletions; or random bytes."""
    content = draw(st.sampled_from(examples) | st.binary(max_size=200))
    for position, length, piece in draw(EDITS):
        at = position % (len(content) + 1)
        content = content[:at] + piece + content[at + length :]
    return content


def with_odd_values(example: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The example with some of its values, and some new keys, replaced by any JSON."""
    replaced = st.dictionaries(st.sampled_from(list(example)) | st.text(max_size=8), JSON, max_size=3)
    return replaced.map(lambda changes: example | changes)


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
