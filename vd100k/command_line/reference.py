"""docs/configuration.md: every key with its type, default and meaning, from the schema and the comments in ``conf/``.

python -m vd100k.command_line.reference docs/configuration.md
"""

from __future__ import annotations

import itertools
import json
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from omegaconf import OmegaConf
from pydantic.fields import FieldInfo

from vd100k.config import run, stages
from vd100k.config.base import Part
from vd100k.config.conf_folder import conf_folder

CONF = conf_folder()
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
- With `verify=judge`, `model@judge.model=OPTION` and `hardware@judge.hardware=OPTION` choose the judge in the same way.
- `--cfg job` prints the settings of a run, and `dry_run=true` shows what it would do.

A default of the form `${…}` is computed from other keys. The defaults are those of `conf/config.yaml`, `conf/base/` and
`conf/stage/`. A file in `conf/GROUP/` may set any key of its group, an experiment any key, and the command line wins
over all files. `stage.` keys belong to the chosen stage; in a pipeline, `stage.STEP.KEY` sets a key of one step.
"""
# Title, prefix of the keys, schema, file with the values and comments, key of the part of that file.
Section = tuple[str, str, type[Part], str, str]
STAGES: tuple[type[Part], ...] = get_args(stages.AnyStage)
SECTIONS: list[Section] = [
    ("Keys of every run", "", run.Run, "config.yaml", ""),
    ("hardware: a machine", "hardware.", run.Hardware, "base/hardware.yaml", ""),
    ("cluster: several machines", "cluster.", run.Cluster, "base/cluster.yaml", ""),
    ("hardware.engine: how a model is served", "hardware.engine.", run.Engine, "base/engine.yaml", ""),
    ("model: weights or an API", "model.", run.Model, "base/model.yaml", ""),
    ("task: a prompt", "task.", run.Task, "config.yaml", "task"),
    ("verify.agreement: asking again", "verify.agreement.", run.Agreement, "verify/agreement.yaml", "agreement"),
    ("verify.judge: asking a judge", "verify.judge.", run.Judge, "verify/judge.yaml", "verify.judge"),
    ("format: what convert writes", "format.", run.Format, "format/swift.yaml", ""),
    ("tracking: where figures are sent", "tracking.", run.Tracking, "tracking/wandb.yaml", ""),
    ("sweep: the jobs of -m", "sweep.", run.Sweep, "config.yaml", "sweep"),
    ("paths: where files are kept", "paths.", run.Paths, "config.yaml", "paths"),
    *((f"stage={(name := stage.__name__.lower())}", "stage.", stage, f"stage/{name}.yaml", "") for stage in STAGES),
]
SECTIONED = {schema for _, _, schema, _, _ in SECTIONS}
INTERNAL = {"key", "parts", "stage"}  # fields of a run that are not keys, or have sections of their own
WORDS = {int: "integer", float: "number", str: "text", bool: "true or false", Path: "path", Any: "anything"}
BOUNDS = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}", "pattern": "that matches `{}`"}
BOUNDS |= {"min_length": "that is not empty"}
NO_KEYS = "This stage has no keys of its own."
LONGEST = 90  # characters of a mapping that is shown as a default


def text() -> str:
    """The whole document."""
    parts = [INTRO]
    for title, prefix, schema, file, part in SECTIONS:
        rows = [f"| `{prefix}{row[0]}` | {' | '.join(row[1:])} |" for row in keys(schema, file, part)]
        table = "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])
        parts.append(f"## {title}\n\n{_introduction(schema, file, part)}\n\n{table if rows else NO_KEYS}\n")
    return "\n".join(parts)


def keys(schema: type[Part], file: str, part: str = "") -> Iterator[tuple[str, str, str, str]]:
    """The key, type, default and meaning of each field of a part of the configuration."""
    loaded = OmegaConf.load(CONF / file)
    values: Any = OmegaConf.to_container(OmegaConf.select(loaded, part) if part else loaded)
    rows = _Rows(file, _comments(CONF / file))
    yield from rows.of(schema, values, f"{part}." if part else "", "")


class _Rows:
    """The rows of a table, with the comments of ``file``."""

    def __init__(self, file: str, comments: dict[str, str]) -> None:
        self.file, self.comments = file, comments

    def of(self, schema: type[Part], values: Any, where: str, prefix: str) -> Iterator[tuple[str, str, str, str]]:
        """The rows of ``schema``; ``where`` leads to its comments, ``prefix`` is the start of its keys."""
        schema.model_rebuild()
        for name, field in schema.model_fields.items():
            key = field.alias or name
            mark, nested = _nested(field.annotation) or ("", None)
            section = nested in SECTIONED
            if (schema is run.Run and (section or key in INTERNAL)) or (schema in STAGES and key == "name"):
                continue
            meaning = self.comments.get(where + key, "")
            if nested in STAGES:
                meaning = meaning or f"The settings of `stage={nested.__name__.lower()}` as a step."
            if schema in (run.Format, run.Tracking) and key == "name":
                meaning = "The name of the chosen option."
            meaning = meaning.replace("<", "&lt;").replace("|", "\\|")
            yield prefix + key, _type(field.annotation, field.metadata), self._default(values, key, field), meaning
            if nested is not None and not section:
                inner = values.get(key) if not mark and isinstance(values, dict) else None
                yield from self.of(nested, inner, f"{where}{key}.", f"{prefix}{key}.{mark}")

    def _default(self, values: Any, key: str, field: FieldInfo) -> str:
        if (_nested(field.annotation) or ("", None))[1] in STAGES:
            return "see there"
        if isinstance(values, dict) and key in values:
            value = values[key]
        elif field.is_required():
            return "required"
        else:
            value = field.default
        if value is None and type(None) not in get_args(field.annotation):
            return "set by the option"
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if isinstance(value, dict) and len(text) > LONGEST:
            return f"[conf/{self.file}](../conf/{self.file})"
        return f"`{text}`".replace("|", "\\|")


def _introduction(schema: type[Part], file: str, part: str) -> str:
    """The first comment of a file or of its part; the formats and trackers have one file for each option."""
    if schema in (run.Format, run.Tracking):
        return str(schema.__doc__)
    if part:
        return _comments(CONF / file)[part]
    lines = (CONF / file).read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("#").strip() for line in itertools.takewhile(lambda one: one[:1] == "#", lines))


def _nested(annotation: Any) -> tuple[str, type[Part]] | None:
    """The part of the schema in a type, and what stands before its keys: NAME in a mapping, N in a list."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return "", annotation
    for argument in get_args(annotation):
        if found := _nested(argument):
            return {list: "N.", dict: "NAME."}.get(get_origin(annotation), "") + found[0], found[1]
    return None


def _type(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A type in words, with its bounds: integer > 0, text or null."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(args[0], [inner for one in args[1:] for inner in getattr(one, "metadata", [one])])
    if origin is Literal:
        words = " or ".join(f"`{one}`" for one in args)
    elif origin in (Union, types.UnionType):
        words = " or ".join("null" if one is type(None) else _type(one) for one in args)
    elif origin is list:
        alternatives = get_origin(args[0]) in (Union, types.UnionType, Literal)
        words = f"list of ({_type(args[0])})" if alternatives else f"list of {_type(args[0])}"
    else:
        words = WORDS.get(annotation, "mapping")
    bounds = [
        form.format(getattr(one, name)) for one in metadata for name, form in BOUNDS.items() if hasattr(one, name)
    ]
    return " ".join([words, " and ".join(bounds)]).strip().replace("|", "\\|")


def _comments(path: Path) -> dict[str, str]:
    """The comment above each key of a YAML file, by dotted key; ``#   KEY: text`` in it is about a key of the key."""
    found: dict[str, str] = {}
    pending: list[str] = []
    parents: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            pending.append(stripped.removeprefix("#").removeprefix(" "))
            continue
        key, colon, _ = stripped.partition(":")
        if colon and key.isidentifier():
            indent = len(line) - len(line.lstrip())
            parents = [(depth, name) for depth, name in parents if depth < indent]
            full = ".".join([*(name for _, name in parents), key])
            found[full] = " ".join(one for one in pending if not one.startswith("  "))
            inner = (one.strip().partition(": ") for one in pending if one.startswith("  "))
            found |= {f"{full}.{name}": meaning for name, _, meaning in inner}
            parents.append((indent, key))
        pending = []
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
