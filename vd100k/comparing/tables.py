"""The tables of ``stage=compare``: the settings in which runs differ, and their results beside each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.markup import escape
from rich.table import Table

from vd100k.comparing import noise
from vd100k.comparing.noise import Content
from vd100k.console import say, show
from vd100k.runs.summary import figures

LONGEST = 60  # characters of a setting


def compare(names: list[str], summaries: list[Content]) -> None:
    """Print both tables, and which runs are the best and which may be as good."""
    settings = [dict(_flat(one.get("settings", {}))) for one in summaries]
    results = [{"status": one["status"], "seconds": one.get("seconds"), **figures(one)} for one in summaries]
    differing = {key: row for key, row in _by_key(settings).items() if any(value != row[0] for value in row)}
    rows = _by_key(results)
    known = _with_intervals(summaries)
    standings = {key: noise.standings(summaries, key) for key in rows if key in known}
    shown = {key: _results(key, values, summaries, standings.get(key)) for key, values in rows.items()}
    _show("Settings that differ", names, differing)
    _show("Results", names, shown)
    if not differing:
        say("All settings are the same.")
    for key in _main_figures(summaries):
        if any(standings.get(key, [])):
            say(f"{key}: {noise.sentence(names, standings[key])}")


def _with_intervals(summaries: list[Content]) -> set[str]:
    return {key for one in summaries for key in figures(one) if noise.interval(one, key)}


def _main_figures(summaries: list[Content]) -> dict[str, None]:
    """The main figure of each side, as ``after/exact_match``."""
    known = [one.get("certainty") or {} for one in summaries]
    return dict.fromkeys(
        f"{side}/{one.get('main', 'exact_match')}" for one in known for side in one.get("intervals", {})
    )


def _results(
    key: str, values: list[Any], summaries: list[Content], standings: list[noise.Standing | None] | None
) -> list[Any]:
    """The cells of a figure: with its interval and how the run compares with the best, as far as both are known."""
    cells = []
    for number, (value, summary) in enumerate(zip(values, summaries, strict=True)):
        text = noise.told(summary, key)
        standing = standings[number] if standings else None
        cells.append(f"{text}, {standing.word}" if text and standing else text or value)
    return cells


def _by_key(runs: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The values of every key, one for each run; None where a run does not have the key."""
    return {key: [one.get(key) for one in runs] for key in dict.fromkeys(key for one in runs for key in one)}


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The settings with their dotted keys, as on the command line."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value


def _show(title: str, names: list[str], rows: dict[str, list[Any]]) -> None:
    table = Table("", *map(escape, names), title=title, title_justify="left")
    for key, values in rows.items():
        table.add_row(escape(key), *(escape(_short(value)) for value in values))
    if rows:
        show(table)


def _short(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
