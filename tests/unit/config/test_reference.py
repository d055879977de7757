"""docs/configuration.md is current and complete."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from vd100k.config import reference
from vd100k.config.base import Part


def test_the_document_is_current() -> None:
    document = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert document == reference.text(), "run: make docs"


@pytest.mark.parametrize("section", reference.SECTIONS, ids=lambda section: section[0])
def test_every_key_has_a_type_a_default_and_a_meaning(section: tuple[str, str, type[Part], str, str]) -> None:
    _, _, schema, file, part = section
    rows = list(reference.keys(schema, file, part))
    assert rows
    assert all(all(cells) for cells in rows), [cells[0] for cells in rows if not all(cells)]
