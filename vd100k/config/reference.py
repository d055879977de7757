"""docs/configuration.md: every key with its type, default and meaning, from the schema and the comments in ``conf/``.

python -m vd100k.config.reference docs/configuration.md
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from omegaconf import OmegaConf
from pydantic.fields import FieldInfo

from vd100k.config import run, stages
from vd100k.config.base import Part

CONF = Path(__file__).parents[2] / "conf"
INTRO = """\
# Configuration

This page lists every key. `make docs` makes it from the schema (`vd100k/config/`) and the comments in `conf/`.

- `GROUP=OPTION` chooses the file `conf/GROUP/OPTION.yaml`, for example `hardware=t4x4`.
  `python run.py --help` lists all options.
- `KEY=VALUE` sets one value, for example `limit=10` or `stage.max_in_flight=8`. Text with spaces is quoted twice,
  for the shell and for Hydra: `"task.prompt='What is this?'"`.
- Options of another tool (`args`, `env`, `sampling`) are free: `stage.args.lora_rank=16` changes one,
  `+stage.args.NAME=VALUE` adds one that is not listed, and `null` removes one.
- `model@teacher.model=OPTION` and `hardware@teacher.hardware=OPTION` choose the model that answers for the training
  images, and its machine. They have the same keys as `model` and `hardware`.
- `--cfg job` prints the settings of a run, and `dry_run=true` shows what it would do.

A default of the form `${…}` is computed from other keys. An option file may set any key of its group.
"""
# Title, prefix of the keys, schema, file with the values and comments, key of the part of that file.
SECTIONS: list[tuple[str, str, type[Part], str, str]] = [
    ("The run", "", run.Run, "config.yaml", ""),
    ("hardware: a machine", "hardware.", run.Hardware, "base/hardware.yaml", ""),
    ("hardware.engine: how a model is served", "hardware.engine.", run.Engine, "base/engine.yaml", ""),
    ("model", "model.", run.Model, "base/model.yaml", ""),
    ("task: a prompt", "task.", run.Task, "config.yaml", "task"),
    ("tracking=wandb", "tracking.", run.Tracking, "tracking/wandb.yaml", ""),
    ("sweep: the jobs of -m", "sweep.", run.Sweep, "config.yaml", "sweep"),
    ("paths: where files are kept", "paths.", run.Paths, "config.yaml", "paths"),
    *(
        (f"stage={name.lower()}", "stage.", getattr(stages, name), f"stage/{name.lower()}.yaml", "")
        for name in ("Generate", "Convert", "Finetune", "Export", "Evaluate", "Serve", "Chat", "Pipeline", "Render")
    ),
]
SECTIONED = {schema for _, _, schema, _, _ in SECTIONS} | {run.Format}
INTERNAL = {"key", "parts", "stage"}  # of a run: not keys, or a section of their own
WORDS = {int: "integer", float: "number", str: "text", bool: "true or false", Path: "path", Any: "anything"}


def text() -> str:
    """The whole document."""
    parts = [INTRO]
    for title, prefix, schema, file, part in SECTIONS:
        rows = [f"| `{prefix}{row[0]}` | {' | '.join(row[1:])} |" for row in keys(schema, file, part)]
        parts.append(f"## {title}\n\n| key | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def keys(schema: type[Part], file: str, part: str = "") -> Iterator[tuple[str, str, str, str]]:
    """The key, type, default and meaning of each field of a part of the configuration."""
    comments: dict[str, str] = _comments(CONF / file)
    values: Any = OmegaConf.to_container(OmegaConf.load(CONF / file))
    values = values[part] if part else values
    yield from _fields(schema, values, comments, f"{part}." if part else "", "")


def _fields(
    schema: type[Part], values: dict[str, Any], comments: dict[str, str], where: str, prefix: str
) -> Iterator[tuple[str, str, str, str]]:
    schema.model_rebuild()
    for name, field in schema.model_fields.items():
        key = field.alias or name
        nested = field.annotation if isinstance(field.annotation, type) and issubclass(field.annotation, Part) else None
        if nested is stages.Rules:
            yield from _fields(nested, values[key], comments, f"{where}{key}.", f"{prefix}{key}.")
        elif not (nested and nested in SECTIONED) and name not in INTERNAL and not _is_option_name(schema, key):
            default = _default(values[key]) if key in values else "set by the option"
            yield prefix + key, _type(field.annotation, field), default, comments.get(where + key, "")


def _is_option_name(schema: type[Part], key: str) -> bool:
    """Whether the key is the name of the chosen stage or tracker, which the command line chooses."""
    return key == "name" and (schema.__module__ == stages.__name__ or schema is run.Tracking)


def _default(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{text}`".replace("|", "\\|")


def _type(annotation: Any, field: FieldInfo | None = None) -> str:
    """A type in words, with its bounds: integer > 0, text or null."""
    origin, args = get_origin(annotation), get_args(annotation)
    bounds = "".join(_bound(one) for one in (field.metadata if field else ()))
    if origin is Annotated:
        return _type(args[0]) + "".join(_bound(one) for one in args[1:])
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in args)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if one is type(None) else _type(one) for one in args) + bounds
    if origin is list:
        return f"list of {_type(args[0])}" + bounds
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return "mapping"
    return WORDS.get(annotation, str(annotation)) + bounds


def _bound(metadata: Any) -> str:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    return "".join(f" {sign} {getattr(metadata, name)}" for name, sign in signs.items() if hasattr(metadata, name))


def _comments(path: Path) -> dict[str, str]:
    """The comment above each key of a YAML file, by dotted key."""
    found: dict[str, str] = {}
    pending: list[str] = []
    parents: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            pending.append(stripped.removeprefix("#").strip())
            continue
        key, colon, _ = stripped.partition(":")
        if not colon or stripped.startswith("-") or not key.isidentifier():
            pending = []
            continue
        indent = len(line) - len(line.lstrip())
        parents = [(depth, name) for depth, name in parents if depth < indent]
        found[".".join([*(name for _, name in parents), key])] = " ".join(pending)
        parents.append((indent, key))
        pending = []
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
