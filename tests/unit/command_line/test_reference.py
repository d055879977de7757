"""docs/configuration.md is current and complete."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT
from vd100k.command_line import reference
from vd100k.config.base import Part
from vd100k.config.run import Run

DOCUMENT = ROOT / "docs" / "configuration.md"


def test_the_document_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == reference.text(), "docs/configuration.md is outdated: run make docs"


@pytest.mark.parametrize("section", reference.SECTIONS, ids=lambda section: section[0])
def test_every_key_has_a_type_a_default_and_a_meaning(section: reference.Section) -> None:
    _, _, schema, file, part = section
    rows = list(reference.keys(schema, file, part))
    incomplete = [cells[0] for cells in rows if not all(cells)]
    assert not incomplete, f"conf/{file} has no comment above {incomplete}"


@pytest.mark.parametrize("part", Part.__subclasses__(), ids=lambda part: part.__name__)
def test_every_key_of_the_schema_is_in_the_document(part: type[Part]) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    described = {key.rpartition(".")[2] for key in re.findall(r"^\| `(\S+)` \|", document, re.MULTILINE)}
    keys = {field.alias or name for name, field in part.model_fields.items()}
    if part is Run:
        keys -= reference.INTERNAL | {"cluster", "hardware", "model", "task", "format", "tracking", "sweep", "paths"}
    assert keys <= described, f"add them to vd100k/command_line/reference.py: {keys - described}"
