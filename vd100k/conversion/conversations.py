"""Conversations: those that a source brings as messages, and those made of several rows about the same image."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson

from vd100k.conversion.filters import RejectedRow
from vd100k.conversion.formats import asked, turns
from vd100k.conversion.token_lengths import TAG, Size, TokenLengths, Turn
from vd100k.io.jsonl import Row
from vd100k.sources.readers import MESSAGES

# OpenAI's and ms-swift's names of the speakers, and those of ShareGPT.
ROLES = {"system": "system", "user": "user", "assistant": "assistant", "human": "user", "gpt": "assistant"}


def unpack(row: Row) -> None:
    """Replace the messages of a row by ``turns`` (questions with their answers), in place.

    Its ``question`` is then the first one, its ``answer`` the last one, and ``system`` its own system prompt, if it
    has one. A row without messages stays as it is.

    Raises:
        RejectedRow: the messages are no conversation that a model can be trained on.
    """
    for column in MESSAGES:
        if row.get(column) is not None:
            break
    else:
        return
    said = _messages(row.pop(column))
    if said and said[0][0] == "system":
        row["system"] = said.pop(0)[1]
    for number, (role, _) in enumerate(said):
        expected = ("user", "assistant")[number % 2]
        if role != expected:
            begins = "it begins with" if not number else f"after the {said[number - 1][0]} comes"
            raise RejectedRow("bad_conversation", f"{begins} the {role}, where the {expected} should be")
    if not said or len(said) % 2:
        raise RejectedRow("bad_conversation", "it ends without an answer" if said else "it has no messages")
    texts = [text for _, text in said]
    row["turns"] = list(zip(texts[::2], texts[1::2], strict=True))
    row["question"], row["answer"] = texts[0], texts[-1]


def _messages(given: Any) -> list[tuple[str, str]]:
    """The role and the text of each message."""
    if not isinstance(given, list):
        raise RejectedRow("bad_conversation", "its messages are not a list")
    said = []
    for number, message in enumerate(given, start=1):
        one = message if isinstance(message, dict) else {}
        role, text = one.get("role", one.get("from")), one.get("content", one.get("value"))
        if not isinstance(text, str) or ROLES.get(str(role)) is None:
            raise RejectedRow("bad_conversation", f"message {number} has no text, or is by {role!r}, which is unknown")
        said.append((ROLES[str(role)], text))
    return said


Numbered = tuple[int, str, Row, list[Size | None]]  # a row with its number and side, and the sizes of its images
Added = tuple[int, str, str, bytes]  # an accepted row for a ``Joiner``: number, side, image, the row with its sizes


class Joined(NamedTuple):
    """A conversation made of rows, and the side that it is on; or a row left out of one, and why."""

    number: int
    side: str
    row: Row
    error: RejectedRow | None = None


class Joiner:
    """Collects the rows of each image on disk, and makes conversations of them.

    A conversation has its rows in their order, and the image in its first turn. Rows that were asked in one
    conversation have a ``turn``: without the one before it, a turn would be about nothing. Other rows that together
    are longer than the trainer takes become several conversations.
    """

    def __init__(self, token_lengths: TokenLengths) -> None:
        self._token_lengths = token_lengths
        self._table = sqlite3.connect("", isolation_level=None)  # a temporary file, deleted with the connection
        self._table.execute("CREATE TABLE turns (place INTEGER PRIMARY KEY, number, side, image, row)")
        self._table.execute("BEGIN")
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._table.close()

    def add(self, turn: Added) -> None:
        """Add an accepted row."""
        self._table.execute("INSERT INTO turns VALUES (NULL, ?, ?, ?, ?)", turn)
        self.rows += 1

    def joined(self) -> Iterator[Joined]:
        """The conversations, in the order of their first rows, and the rows left out of them."""
        self._table.execute("CREATE INDEX images ON turns (image, side, place)")
        found = self._table.execute(
            "SELECT first, number, side, row FROM turns "
            "JOIN (SELECT side, image, min(place) AS first FROM turns GROUP BY image, side) USING (image, side) "
            "ORDER BY first, place"
        )
        for _, entries in groupby(found, key=lambda entry: entry[0]):
            rows = [_numbered(*entry[1:]) for entry in entries]
            asked_together = [entry for entry in rows if "turn" in entry[2]]
            yield from self._continued(sorted(asked_together, key=lambda entry: int(entry[2]["turn"])))
            yield from self._merged([entry for entry in rows if "turn" not in entry[2]])

    def _continued(self, entries: list[Numbered]) -> Iterator[Joined]:
        """The rows of one conversation, as far as no turn is missing and the trainer takes its length."""
        kept: list[Row] = []
        for number, side, row, sizes in entries:
            tokens = self._excess([*kept, row], sizes)
            if len(kept) + 1 != row["turn"]:
                detail = f"turn {len(kept) + 1} of the conversation is missing, and this is turn {row['turn']}"
                yield Joined(number, side, row, RejectedRow("earlier_turn", detail))
            elif tokens:
                detail = f"{tokens} tokens with the earlier turns for {self._token_lengths.model}"
                yield Joined(number, side, row, RejectedRow("too_long", detail))
            else:
                kept.append(row)
        if kept:
            yield Joined(entries[0][0], entries[0][1], _conversation(kept))

    def _merged(self, entries: list[Numbered]) -> Iterator[Joined]:
        """As few conversations as the trainer's limit allows."""
        part: list[Row] = []
        for k, (_, _, row, sizes) in enumerate(entries):
            if part and self._excess([*part, row], sizes):
                first, side, *_ = entries[k - len(part)]
                yield Joined(first, side, _conversation(part))
                part = []
            part.append(row)
        if part:
            first, side, *_ = entries[len(entries) - len(part)]
            yield Joined(first, side, _conversation(part))

    def _excess(self, rows: list[Row], sizes: list[Size | None]) -> int | None:
        return self._token_lengths.excess(turns(_conversation(rows)), sizes)


def added(number: int, side: str, identity: str, row: Row, sizes: list[Size | None]) -> Added:
    """An accepted row for a ``Joiner``; ``identity`` tells its image, and ``sizes`` is what is known of its size.

    Raises:
        RejectedRow: nobody can say where in its conversation it was asked.
    """
    if row.get("turn", 0).__class__ not in (int, float):
        raise RejectedRow("bad_conversation", f"its turn is {row['turn']!r}, which is no number")
    return number, side, identity, orjson.dumps([row, sizes])


def _numbered(number: int, side: str, content: bytes) -> Numbered:
    row, sizes = orjson.loads(content)
    return number, side, row, sizes


def _conversation(rows: list[Row]) -> Row:
    if len(rows) == 1:
        return rows[0]
    together = {**rows[0], "turns": _turns(rows), "answer": rows[-1]["answer"]}
    if any("objects" in row for row in rows):  # boxes, which ms-swift takes one after another
        together["placeholders"] = [row.get("placeholders", row["answer"]) for row in rows]
        found = [row["objects"] for row in rows if "objects" in row]
        together["objects"] = {
            **found[0],
            **{key: [one for some in found for one in some[key]] for key in ("ref", "bbox")},
        }
    return together


def _turns(rows: list[Row]) -> list[Turn]:
    """The turns of all rows; the image is in the first one alone."""
    return [
        (text if not k and not number else text.replace(TAG, "").lstrip(), answer)
        for number, row in enumerate(rows)
        for k, (text, answer) in enumerate(asked(row))
    ]
