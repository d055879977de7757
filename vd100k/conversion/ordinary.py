"""Rows in which there is nothing to find: most of them, so they are recognised and written in as few steps as possible.

An ordinary row has one question, one answer and one image, each as text, and nothing else that a conversion looks at.
It breaks no rule: every test here is at least as strict as a rule, and a row that fails one is left to the rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

from vd100k.answers.texts import normalize
from vd100k.conversion import formats
from vd100k.conversion.filters import LONGEST_REPEATED, NO_REFUSAL, REFUSAL, RejectedRow
from vd100k.conversion.token_lengths import TAG, bytes_of
from vd100k.io.jsonl import Fault, Row
from vd100k.io.repeats import KEY, NEW

if TYPE_CHECKING:
    from vd100k.conversion.blocks import BlockConverter

NEEDED = {"id", "image", "question", "answer"}
# Fields that give a row another meaning, or its record another content.
SPECIAL = {"images", "messages", "conversations", "boxes", "rejected", "turn", "turns", "system", "split", "choiceA"}
SPECIAL |= {"objects", "placeholders", "names"}
SHAPES = 1000  # remembered
ALL_NEW = bytes([NEW])  # what is known of a row that repeats none
WINDOW = -3 - LONGEST_REPEATED  # where the last three characters of a repetition are found again


class OrdinaryRows:
    """Writes the ordinary rows for a converter; none are ordinary if the conversion has no simple kind of record."""

    def __init__(self, converter: BlockConverter) -> None:
        recipe = converter.recipe
        run, stage = recipe.run, recipe.stage
        self._converter, self._shapes = converter, set[tuple[str, ...]]()
        self._room = recipe.token_lengths.room if stage.rules.too_long else 1 << 60
        self._prompt = converter.row_filter.prompt
        self._safe = NO_REFUSAL - {(self._prompt or "")[:1]}
        self.exist = (
            recipe.layout is formats.swift
            and run.task.reader not in ("boxes", "json")
            and stage.turns == "separate"
            and not (converter.images.accesses_files or recipe.amend or recipe.check)
        )

    def write(self, entries: Iterable[tuple[int, Any]]) -> int:
        """Write the ordinary rows, let the converter convert the others, and return how many there are together."""
        # One long function that keeps what it can in local variables: each step that a row saves is 1 % of the time.
        shapes, room, safe, prompt = self._shapes, self._room, self._safe, self._prompt
        converter = self._converter
        convert, converted, kinds = converter.convert, converter.converted, converter.kinds
        add_key, made, draw, lines = converter.keys.add, converter.keys.made, converter.splits.drawn, converter.lines
        check, dumps, newline, size = converter.images.check, orjson.dumps, orjson.OPT_APPEND_NEWLINE, bytes_of
        before = [{"role": "system", "content": system}] if (system := converter.system_prompt) else []
        rows, last_image, last_identity, last_model, example = 0, None, None, None, None
        for number, row in entries:
            rows += 1
            if tuple(row) not in shapes and not self._has_shape(row):
                convert(number, row)
                continue
            question, answer, image, id = row["question"], row["answer"], row["image"], row["id"]
            if not (
                type(question) is str
                and type(answer) is str
                and type(image) is str
                and type(id) is str
                and (question and answer and image and id)
                and TAG not in question
                and TAG not in answer
                and answer.find(answer[-3:], WINDOW, -1) < 0
                and (answer[0] in safe or not (REFUSAL.match(answer) or (prompt and answer.startswith(prompt))))
                and not answer[-1].isspace()
                and row.get("finish_reason") != "length"
                and size(question) + size(answer) <= room
                and (len(answer) >= 2 * len(question) + 8 or normalize(answer) != normalize(question))
                and (content := row.get("image_sha256")) != ""
                and (not kinds or kinds[(at := len(made) // KEY) : at + 1] == ALL_NEW)
            ):
                convert(number, row)
                continue
            if image != last_image:
                try:
                    found = check(image)
                except RejectedRow:
                    convert(number, row)
                    continue
                last_image, paths, name = image, [found.path], found.name
            identity = content if type(content) is str else name
            add_key(identity, question)
            if identity != last_identity:
                last_identity, side = identity, lines[draw(identity)]
            if (model := row.get("model")) != last_model:
                last_model = model
                if type(model) is str:
                    converted.models.add(model)
            messages = [*before, {"role": "user", "content": TAG + question}, {"role": "assistant", "content": answer}]
            record = {"messages": messages, "images": paths}
            side += dumps(record, None, newline)
            if example is None:
                example = converted.example = converted.example or record
        return rows

    def _has_shape(self, row: Row | Fault) -> bool:
        """Whether a row has the fields of an ordinary one; if so, others with these fields will have them too."""
        is_ordinary = isinstance(row, dict) and row.keys() >= NEEDED and not row.keys() & SPECIAL
        if is_ordinary and len(self._shapes) < SHAPES:
            self._shapes.add(tuple(row))
        return is_ordinary
