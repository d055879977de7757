"""How a key that takes a map is set on the command line, for messages."""

from __future__ import annotations

# Examples in messages. A map with one entry may hold any others.
MAPS: dict[str, dict[str, object]] = {
    "model.price": {"prompt": 2.5, "completion": 10},
    "task.sampling": {"temperature": 0.5},
}


def map_example(key: str) -> str:
    """A map as it is written on the command line for ``key``."""
    entries = _map_example(key).items()
    return f"{{{', '.join(f'{name}: {value}' for name, value in entries)}}}"


def describe_map(key: str) -> str:
    """How a key that is a map is set, as a whole or, if it may have any entry, one entry alone."""
    whole = f"'{key}={map_example(key)}'"
    (name, value), *more = _map_example(key).items()
    return whole if more else f"{whole}, or one entry: {key}.{name}={value}"


def _map_example(key: str) -> dict[str, object]:
    return MAPS.get(key.lstrip("+").removeprefix("teacher.").removeprefix("judge."), {"NAME": "VALUE"})
