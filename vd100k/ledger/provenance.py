"""What decides an answer. Rows that were made differently are never mixed: they are refused, or set aside.

Everything in ``answer_settings`` is kept in ``<name>.settings.json`` beside the rows and compared by
every later run. Each row also records its image (the sha256 of the file).

What is not compared, because it changes no more than the rounding: the engine, its number type, the
number of replicas, and the address of a server. A server that is given by its URL may load other
weights under the same name. So the name of the folder that it loaded them from is compared if it
tells that, rows record the ``system_fingerprint`` if it sends one, and an evaluation never reuses
answers from a URL.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.errors import DataError
from vd100k.io import atomic, fingerprint
from vd100k.io.jsonl import Row
from vd100k.io.redaction import names_secret

# Options of engines that change what the model sees, or its weights.
DECIDING = ("chat_template", "template", "quantization", "mm_processor_kwargs")
FILES = ("jsonl", "failures.jsonl", "settings.json")
# Not comparable if either side does not know it.
OPTIONAL = {"reader", "loaded_from", "engine"}


def answer_settings(run: Run, loaded_from: str | None = None) -> Row:
    """What decides the answers of a run; ``loaded_from`` is the folder name of the weights that a server reports."""
    task, engine = run.task, run.hardware.engine
    ours = run.hardware.urls is None
    options = engine.args if engine and ours else {}
    known: dict[str, Any] = {
        "schema": task.json_schema,
        "turns": task.turns or None,
        "adapter": _of_adapter(run) if ours and run.weights == "adapter" else None,
        "loaded_from": loaded_from,
        "box_notation": run.model.box_notation if task.reader == "boxes" else None,
        "engine": {key: options[key] for key in DECIDING if options.get(key) is not None} or None,
    }
    settings = {
        "model": fingerprint.of_model(run.model_path) if ours else run.served_name,
        "weights": run.weights,
        "system_prompt": task.system_prompt,
        "prompt": task.prompt,
        "question": task.question,
        "questions": str(task.questions) if task.questions else None,
        "reader": task.reader,
        "sampling": _without_secrets(task.sampling),
        "max_pixels": run.model.max_pixels,
    } | {key: value for key, value in known.items() if value is not None}
    compared: Row = json.loads(json.dumps(settings, default=str))  # as they are when they are read again
    return compared


def _without_secrets(value: Any, name: str = "") -> Any:
    """A JSON value with a hash in place of each secret, which can be compared but not read."""
    if isinstance(value, dict):
        return {key: _without_secrets(inner, str(key)) for key, inner in value.items()}
    return f"hash {fingerprint.of(value)}" if names_secret(name) and isinstance(value, str) else value


def _of_adapter(run: Run) -> str:
    return fingerprint.of_model(str(run.paths.adapter.resolve()))  # a link to the last checkpoint


def difference(old: Row, new: Row) -> str:
    """What differs between two settings, as text for a message; empty if they give the same answers."""
    if "weights" in new and "weights" not in old:  # older versions knew merged weights by their content alone
        old = old | {"weights": "base" if new["weights"] == "adapter" else new["weights"]}
    changed = (key for key in {**old, **new} if old.get(key) != new.get(key))
    return "; ".join(
        f"{key} was {old.get(key)!r} and is now {new.get(key)!r}"
        for key in changed
        if key not in OPTIONAL or None not in (old.get(key), new.get(key))
    )


def read(path: Path) -> Row:
    """The settings in a file.

    Raises:
        DataError: it is broken, for example empty after a power failure.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        settings = error
    if not isinstance(settings, dict):
        raise DataError(
            f"{path} is broken, so it is unknown how the rows beside it were made. If you know that the settings have "
            "not changed, remove this file and run the same command again; otherwise move the rows away with it."
        )
    return settings


def guard(rows: Path, settings: Row, if_changed: str, stage_key: str) -> None:
    """Refuse or set aside rows that were made differently; bring back rows that were made in the same way.

    Raises:
        DataError: the rows are refused, or their settings cannot be read.
    """
    path = beside(rows, "settings.json")
    if path.exists() and rows.exists():
        old = read(path)
        if change := difference(old, settings):
            if if_changed == "refuse" and rows.stat().st_size:
                raise DataError(refusal(rows, change, stage_key))
            _set_aside(rows, old)
            bring_back(rows, settings)
        else:
            settings = {key: old[key] for key in OPTIONAL & old.keys()} | settings
    atomic.write_json(path, settings)


def refusal(rows: Path, change: str, stage_key: str) -> str:
    """The message for rows that were made differently."""
    return (
        f"{rows} holds rows that were made differently ({change}).\n"
        "Give the new rows a name of their own (task.name=NAME or dataset=NAME), "
        f"or move the old rows away with {stage_key}.if_changed=set_aside."
    )


def beside(rows: Path, ending: str) -> Path:
    """The file that belongs to these rows and has this ending."""
    return rows.with_name(f"{rows.stem}.{ending}")


def _set_aside(rows: Path, settings: Row) -> None:
    """Give the files of the rows another name, with a hash of their settings and a number."""
    name = fingerprint.of(settings)[:8]
    numbers = (path.name.rpartition(f"{name}.")[2] for path in rows.parent.glob(f"{rows.stem}.jsonl.{name}*"))
    number = 1 + max((int(number) if number.isdigit() else 1 for number in numbers), default=0)
    for ending in FILES:
        path = beside(rows, ending)
        if path.exists():
            path.rename(path.with_name(f"{path.name}.{name}{f'.{number}' if number > 1 else ''}"))


def bring_back(rows: Path, settings: Row) -> None:
    """Bring back the rows that were made in the same way and were in use last."""
    first = beside(rows, "settings.json").name
    kept = sorted(rows.parent.glob(f"{first}.*"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in kept:
        tail = path.name.removeprefix(first)
        if not difference(read(path), settings) and rows.with_name(f"{rows.name}{tail}").exists():
            for ending in FILES:
                target = beside(rows, ending)
                if (source := target.with_name(f"{target.name}{tail}")).exists():
                    source.rename(target)
            return
