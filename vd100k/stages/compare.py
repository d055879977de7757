"""Show runs side by side: the settings that differ, and all figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from vd100k.config.run import Run
from vd100k.config.stages import Compare
from vd100k.console import say, show
from vd100k.runs.report import page
from vd100k.runs.summary import Summary, figures
from vd100k.runs.tracker import Tracker

LONGEST = 60  # characters of a setting


def plan(run: Run, stage: Compare) -> list[str]:
    return [f"compare {', '.join(map(str, run.runs))}"]


def run(run: Run, stage: Compare, folder: Path, summary: Summary, tracker: Tracker) -> None:
    tracker.disable()
    summaries = [page.read(path.expanduser().resolve()) for path in run.runs]
    names = [path.resolve().name for path in run.runs]
    settings = [dict(_flat(one.get("settings", {}))) for one in summaries]
    results = [{"status": one["status"], "seconds": one.get("seconds"), **figures(one)} for one in summaries]
    differing = {key: row for key, row in _by_key(settings).items() if any(value != row[0] for value in row)}
    _show("Settings that differ", names, differing)
    _show("Results", names, _by_key(results))
    if not differing:
        say("All settings are the same.")


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
