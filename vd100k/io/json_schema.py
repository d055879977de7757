"""Checks of ``task.schema``, so that no mistake in it is found only at the first paid answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from referencing import Resource
    from referencing._core import Resolver

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
    import referencing
    from jsonschema_specifications import REGISTRY
    from referencing.jsonschema import DRAFT202012

    # Nothing is fetched from a network: a reference leads into the schema, or to a schema of the standard.
    resource = referencing.Resource.from_contents(schema, default_specification=DRAFT202012)
    lost = next(_unresolvable(resource, REGISTRY.resolver_with_root(resource)), None)
    if lost is not None:
        yield f"task.schema refers to {lost}, which is not in it: add it there, or correct the $ref"
        return
    validator = jsonschema.validators.validator_for(schema)(schema)
    try:
        for example in EXAMPLES:
            list(validator.iter_errors(example))
    except RecursionError:
        yield "task.schema contains a $ref that leads back to itself: correct it"


def _unresolvable(resource: Resource[Any], resolver: Resolver[Any]) -> Iterator[str]:
    """The values of ``$ref`` that lead nowhere; data such as ``enum`` and ``default`` is not searched."""
    from referencing.exceptions import Unresolvable

    if isinstance(resource.contents, dict) and isinstance(reference := resource.contents.get("$ref"), str):
        try:
            resolver.lookup(reference)
        except Unresolvable:
            yield reference
    for inner in resource.subresources():
        yield from _unresolvable(inner, resolver.in_subresource(inner))
