"""The keys of a configuration by the schema: which exist, what kind of value each takes, which one was meant."""

from __future__ import annotations

import difflib
import functools
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf

from vd100k.config.base import Part
from vd100k.config.run import Run
from vd100k.config.stages import AnyStage

INTERNAL = {"key", "parts"}  # of a run: set by the parser
ELSEWHERE = {"hydra", "teacher", "judge", "families"}  # nodes that the schema does not describe
TEXT = {str, Path, type(None)}
SHOWN = 3  # suggestions
MOUNTED = {"engine": "engine@hardware.engine"}  # groups that are chosen for a part of the configuration

Kind = Literal["text", "text or number", "other"]


@functools.cache
def top_level() -> list[str]:
    """The keys that all runs share, without those of their parts."""
    return [name for name in Run.model_fields if name not in INTERNAL]


class Keys:
    """The keys that exist with the stage ``stage``, or with any stage if it is None, and the groups in ``conf``."""

    def __init__(self, conf: Path, stage: str | None) -> None:
        self._conf = conf
        self._stages = {str(get_args(one.model_fields["name"].annotation)[0]): one for one in get_args(AnyStage)}
        self._stage = stage if stage in self._stages else None

    def kind(self, key: str) -> Kind | None:
        """What kind of value a key takes; None for a key or a group that the schema does not describe."""
        found = self._types(key)
        if not found or found == {type(None)}:
            return None
        if found <= TEXT:
            return "text"
        return "text or number" if str in found and not any(map(_is_map, found)) else "other"

    def form(self, key: str) -> Literal["map", "list"] | None:
        """Whether a key takes a map or a list; None if it takes a single value, or anything."""
        found = self._types(key) - {type(None), Any}
        if found and all(_is_map(one) or (isinstance(one, type) and issubclass(one, Part)) for one in found):
            return "map"
        return "list" if found and all(get_origin(one) is list for one in found) else None

    def is_switch(self, key: str) -> bool:
        """Whether a key is true or false."""
        return self._types(key) == {bool}

    def problem(self, key: str) -> str | None:
        """A sentence about a key that does not exist, with the keys that may be meant; None if it exists."""
        first = key.partition(".")[0]
        if key in MOUNTED:
            return f"{key}=OPTION is written {MOUNTED[key]}=OPTION"
        if "@" in key or "/" in key or first in ELSEWHERE or self.is_group(key) or self._types(key):
            return None
        where = ""
        if self._stage and first == "stage":
            where = f" of stage={self._stage}"
            others = [name for name in self._stages if Keys(self._conf, name)._types(key)]
            if others:
                return f"{key} is not a key{where}, but of {' or '.join(f'stage={name}' for name in others)}"
        near = self.near(key)
        meant = f": did you mean {' or '.join(near)}?" if near else ": --help and docs/configuration.md list the keys"
        return f"{key} is not a key{where}{meant}"

    def is_group(self, key: str) -> bool:
        """Whether ``conf`` has options under this name."""
        return (self._conf / key).is_dir()

    def is_open(self, key: str) -> bool:
        """Whether a key is in a map that takes any name, such as the options of an engine."""
        return any(map(_is_map, self._types(key.rpartition(".")[0])))

    def group_of(self, option: str) -> str | None:
        """The first group that has an option of this name."""
        return next((path.parent.name for path in sorted(self._conf.glob(f"*/{option}.yaml"))), None)

    def near(self, key: str) -> list[str]:
        """The existing keys that look most like ``key``; a key without its first part is found by its last."""
        groups = [path.name for path in self._conf.iterdir() if path.is_dir() and path.name not in ("base", "fit")]
        every = list(dict.fromkeys([*top_level(), *groups, *self._every()]))
        last = key.rpartition(".")[2]
        same = [name for name in every if "." in name and name.rpartition(".")[2] == last]
        near = difflib.get_close_matches(key, every, n=SHOWN, cutoff=0.75)
        if not same and not near:
            ends = difflib.get_close_matches(last, {name.rpartition(".")[2] for name in every}, n=1, cutoff=0.75)
            same = [name for name in every if name.rpartition(".")[2] in ends]
        same = [name for name in same if name.count(".") == min(one.count(".") for one in same)]
        return list(dict.fromkeys([*near, *same]))[: SHOWN if same else 1]

    def _every(self) -> Iterator[str]:
        def below(prefix: str, annotation: Any) -> Iterator[str]:
            for part in _members(annotation):
                if isinstance(part, type) and issubclass(part, Part):
                    for name, field in part.model_fields.items():
                        key = f"{prefix}.{field.alias or name}"
                        yield key
                        yield from below(key, field.annotation)

        for path in sorted(self._conf.glob(f"stage/{self._stage or '*'}.yaml")):
            yield from _written(OmegaConf.load(path), "stage")
        for name in top_level():
            if name == "stage":
                for stage in self._chosen():
                    yield from below("stage", stage)
            else:
                yield from below(name, Run.model_fields[name].annotation)

    def _chosen(self) -> list[Any]:
        return [self._stages[self._stage]] if self._stage else list(self._stages.values())

    def _types(self, key: str) -> set[Any]:
        """The types of the values of a key; empty if there is no such key. What a map holds has any name."""
        first, *rest = key.split(".")
        if first in ("teacher", "judge") and rest:
            first, *rest = rest
        if first not in top_level():
            return set()
        found = set(self._chosen()) if first == "stage" else set(_members(Run.model_fields[first].annotation))
        for name in rest:
            found = {member for one in found for member in _inside(one, name)}
        return found


def _written(node: Any, key: str) -> Iterator[str]:
    """The keys below a node of an option file; they include the options in its maps."""
    for name in map(str, node) if isinstance(node, DictConfig) else ():
        yield f"{key}.{name}"
        yield from _written(node._get_node(name), f"{key}.{name}")


def _members(annotation: Any) -> Iterator[Any]:
    """The types of a union; the annotations of pydantic are left out."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _inside(owner: Any, name: str) -> Iterator[Any]:
    """The types of what ``owner`` has under a name."""
    if isinstance(owner, type) and issubclass(owner, Part):
        for field_name, field in owner.model_fields.items():
            if name == (field.alias or field_name):
                yield from _members(field.annotation)
    elif _is_map(owner) or get_origin(owner) is list:
        yield Any


def _is_map(owner: Any) -> bool:
    return owner is Any or get_origin(owner) is dict
