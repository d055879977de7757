"""task.schema is checked before anything is asked."""

from __future__ import annotations

from typing import Any

import pytest

from vd100k.io.json_schema import check_schema


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "#/$defs/missing"}, "refers to #/$defs/missing, which is not in it"),
        ({"items": {"$ref": "other.json"}}, "refers to other.json"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "refers to http://127.0.0.1:9/schema.json"),
        ({"$ref": "#"}, "leads back to itself"),
        ({"type": "colour"}, "not a valid JSON schema"),
    ],
)
def test_a_schema_that_no_answer_can_be_compared_with_is_a_problem(schema: dict[str, Any], message: str) -> None:
    assert any(message in problem for problem in check_schema(schema, "json"))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}}, "$ref": "#/definitions/a"},
        {"properties": {"$ref": {"type": "string"}}},
        {"enum": [{"$ref": "only a value"}], "default": {"$ref": "#/nowhere"}},
        {"$defs": {"a": {"$id": "http://x/a", "$defs": {"q": {}}, "items": {"$ref": "#/$defs/q"}}}},
    ],
)
def test_a_usable_schema_is_no_problem(schema: dict[str, Any]) -> None:
    assert not list(check_schema(schema, "json"))
