"""Checks of ``task.schema``, so that no mistake in it is found only at the first paid answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

EXAMPLES: tuple[Any, ...] = ({}, [], "", 0, None)


def check_schema(schema: dict[str, Any], reader: str) -> Iterator[str]:
    """The problems of a JSON schema for answers that ``reader`` parses."""
    import jsonschema  # slow to import, and most tasks have no schema

    if reader != "json":
        yield f"task.schema is for JSON answers, and task.reader={reader}: set task.reader=json"
    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        yield f"task.schema is not a valid JSON schema: {error.json_path}: {error.message}"
    else:
        yield from _check_references(schema)


def _check_references(schema: dict[str, Any]) -> Iterator[str]:
    """A reference that leads nowhere, or back to itself."""
    import jsonschema
    import referencing.exceptions
    from referencing.jsonschema import DRAFT202012

    # Only references within the schema can be used: nothing is fetched from a network.
    resource = referencing.Resource.from_contents(schema, default_specification=DRAFT202012)
    resolver = referencing.Registry().resolver_with_root(resource)
    for reference in sorted(set(_references(schema))):
        try:
            resolver.lookup(reference)
        except referencing.exceptions.Unresolvable:
            yield f"task.schema refers to {reference}, which is not in it: add it there, or correct the $ref"
            return
    validator = jsonschema.validators.validator_for(schema)(schema)
    try:
        for example in EXAMPLES:
            list(validator.iter_errors(example))
    except RecursionError:
        yield "task.schema contains a $ref that leads back to itself: correct it"


def _references(schema: Any) -> Iterator[str]:
    """The values of every ``$ref`` in a schema."""
    if isinstance(schema, dict):
        yield from (value for key, value in schema.items() if key == "$ref" and isinstance(value, str))
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _references(inner)
