"""A composed configuration -> the typed run, or every problem with it at once."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from vd100k.config import checks, interpolation, maps, model_defaults, other_tasks, sweep_job
from vd100k.config.base import Part
from vd100k.config.quoting import escaped
from vd100k.config.run import Run
from vd100k.errors import ConfigError
from vd100k.stores.names import dataset_name

PARTS = (
    "stage",
    "task",
    "model",
    "cluster",
    "hardware",
    "teacher",
    "sweep",
    "paths",
    "served_names",
    "format",
    "tracking",
    "verify",
)
WEIGHTS = {"before": "base", "after": "merged"}  # asked by each side of an evaluation
CHECKED = {"parity": "base", "parity_merged": "merged"}  # the weights whose server each check of a pipeline is about
ELSEWHERE = {"teacher", "judge", "families"}  # nodes that are not parts of a run
LONGEST = 200  # characters of a value in a message


def parse(cfg: DictConfig) -> Run:
    """The typed run of a composed configuration; ``dataset`` and ``variant`` get their defaults in it.

    Raises:
        ConfigError: with every missing key, unknown key, bad value and impossible combination.
    """
    builder = _Builder()
    run = builder.build(cfg, "stage")
    if run is None or builder.problems:
        raise ConfigError(list(builder.problems))
    return run


class _Builder:
    """Builds a run with its parts; ``problems`` collects what is wrong with any of them, in order, each once."""

    def __init__(self) -> None:
        self.problems: dict[str, None] = {}

    def build(self, cfg: DictConfig, key: str) -> Run | None:
        """The run of ``cfg``; a run that generates gets the teacher's model and hardware, if there is a teacher."""
        parts: dict[str, Run | None] = {}
        if wrong := list(_without_keys(cfg)):
            self._add(wrong)
            return None
        try:
            self._add(_set_defaults(cfg))
            teacher = _teacher(cfg)
            if OmegaConf.select(cfg, "stage.name") == "generate" and teacher:
                cfg = _with(cfg, teacher)
            for name in _steps(cfg):
                parts[name] = self.build(_with(cfg, _step(cfg, name)), f"{key}.{name}")
            for name in _sides(cfg):
                parts[name] = self._build_side(cfg, name, f"{key}.ask")
            for number, name, other in other_tasks.given(cfg):
                parts[f"also.{name}"] = self._build_other(cfg, name, other, f"{key}.also[{number}]")
            for name in _verifiers(cfg):
                parts[name] = self._build_verifier(cfg, name, f"{key}.ask")
        except OmegaConfBaseException as error:
            self._add([_describe_omegaconf_error(cfg, error)])
            return None
        run = self._validate(cfg, key, parts)
        if run:
            self._add(checks.check(run, set(teacher)))
        return run

    def _build_side(self, cfg: DictConfig, side: str, key: str) -> Run | None:
        """A run that asks the weights of one side of an evaluation; ``evaluation`` decides what it asks them."""
        run = self._validate(_with(cfg, {"stage": cfg.stage.ask, "weights": WEIGHTS[side]}), key, {})
        if run:
            self._add(checks.check_asking(run))
        return run

    def _build_other(self, cfg: DictConfig, name: str, other: DictConfig, key: str) -> Run | None:
        """A run that evaluates another task with the same models."""
        if problem := other_tasks.unknown(other.task):
            self._add([f"{key}.task={other.task}: {problem}"])
            return None
        return self.build(_with(cfg, other_tasks.changes(cfg, name, other)), key)

    def _build_verifier(self, cfg: DictConfig, name: str, key: str) -> Run | None:
        """A run that asks for the verification of answers; a judge that was chosen takes the place of the teacher."""
        changes = {"stage": cfg.stage.ask}
        if cfg.stage.name == "evaluate":
            changes |= {"images": cfg.stage.images}
        if name == "agreement" or not _chosen(cfg.judge):
            return self.build(_with(cfg, changes), key)
        inner = _Builder()
        run = inner.build(_with(cfg, changes | {"teacher": cfg.judge}), key)
        self._add(problem.replace("@teacher.", "@judge.") for problem in inner.problems)
        return run

    def _validate(self, cfg: DictConfig, key: str, parts: dict[str, Run | None]) -> Run | None:
        try:
            content = {name: _resolved(cfg, name) for name in cfg if name not in ELSEWHERE}
            built = {name: part for name, part in parts.items() if part}
            return Run.model_validate(content | {"key": key, "parts": built})
        except ValidationError as error:
            self._add(_describe_validation_error(error, key))
        except OmegaConfBaseException as error:
            self._add([_describe_omegaconf_error(cfg, error)])
        return None

    def _add(self, problems: Iterable[str]) -> None:
        self.problems.update(dict.fromkeys(problems))


def _without_keys(cfg: DictConfig) -> Iterator[str]:
    """A sentence about each part of the configuration that was replaced by a value, such as ``sweep=null``."""
    for name in PARTS:
        if not isinstance(cfg.get(name), DictConfig):
            yield f"{name}={cfg.get(name)}: it has keys of its own, so leave it out, or set {name}.KEY=VALUE"


def _set_defaults(cfg: DictConfig) -> list[str]:
    """Set the defaults that configuration files cannot express; in place, because a copy takes a tenth of a second.

    Returns the problems with those that are read from a model.
    """
    problems = []
    if cfg.dataset is None:
        name = dataset_name(cfg.images)
        cfg.dataset = name and escaped(name)
    if cfg.variant is None:
        cfg.variant = sweep_job.variant(list(cfg.sweep.get("keys") or []))
    trains = cfg.stage.get("name") == "finetune"
    owners = [(cfg[name], False) for name in ("teacher", "judge") if name in cfg]
    for owner, learns in (*owners, (cfg, trains)):
        if isinstance(owner.get("model"), DictConfig):
            here = OmegaConf.select(owner, "hardware.urls") is None
            problems += model_defaults.complete(owner.model, cfg.families, here, learns)
    if not cfg.model.name:
        cfg.model.name = cfg.model.served_name = model_defaults.UNCHOSEN
        own_rows = cfg.stage.get("name") == "convert" and not OmegaConf.is_interpolation(cfg.stage, "source")
        if own_rows and OmegaConf.is_interpolation(cfg, "answers"):
            cfg.answers = "annotations"
    return problems


def _teacher(cfg: DictConfig) -> dict[str, Any]:
    """The nodes of the teacher that were chosen: ``model``, ``hardware``, both or none."""
    return _chosen(cfg.teacher)


def _chosen(owner: DictConfig) -> dict[str, Any]:
    return {str(name): node for name, node in owner.items() if node is not None and node.get("name")}


def _steps(cfg: DictConfig) -> list[str]:
    """The steps of a pipeline that have settings; other names are reported by the schema."""
    steps = cfg.stage.steps if cfg.stage.get("name") == "pipeline" else None
    if not isinstance(steps, ListConfig):
        return []
    off = CHECKED if cfg.stage.get("parity") is False else ()
    return [step for step in steps if isinstance(cfg.stage.get(step), DictConfig) and step not in off]


def _step(cfg: DictConfig, name: str) -> dict[str, Any]:
    """The nodes of a step; a check for parity is about the training of its pipeline and the weights that are served."""
    changes = {"stage": cfg.stage[name]}
    if name in CHECKED:
        changes |= {"stage.train": cfg.stage.finetune, "weights": CHECKED[name]}
    return changes


def _sides(cfg: DictConfig) -> list[str]:
    sides = cfg.stage.get("sides") if cfg.stage.get("name") == "evaluate" else None
    return [side for side in WEIGHTS if side in (sides or [])]


def _verifiers(cfg: DictConfig) -> list[str]:
    """The ways of verification that ask a model; agreement may compare with existing answers alone.

    An evaluation may ask the judge about its held-out images.
    """
    if cfg.stage.get("name") == "evaluate":
        return ["judge"] if cfg.stage.get("judge") is True and isinstance(cfg.verify.get("judge"), DictConfig) else []
    if cfg.stage.get("name") != "verify":
        return []
    chosen = {name: cfg.verify.get(name) for name in ("agreement", "judge")}
    return [name for name, node in chosen.items() if isinstance(node, DictConfig) and node.get("samples") != 0]


def _with(cfg: DictConfig, changes: dict[str, Any]) -> DictConfig:
    """A copy with some nodes replaced; interpolations resolve to the new values."""
    changed = copy.deepcopy(cfg)
    OmegaConf.set_struct(changed, False)
    for key, value in changes.items():
        OmegaConf.update(changed, key, copy.deepcopy(value), merge=False)
    return changed


def _resolved(cfg: DictConfig, name: Any) -> Any:
    value = cfg[name]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _describe_omegaconf_error(cfg: DictConfig, error: OmegaConfBaseException) -> str:
    language, texts = cfg.task.get("language"), cfg.task.get("texts") or {}
    if language not in texts and "task.texts" in str(error):
        return f"task.language={language}: this task has texts in {', '.join(texts) or 'no language'} only"
    return interpolation.describe(error, cfg)


def _describe_validation_error(error: ValidationError, stage_key: str) -> Iterator[str]:
    for fault in error.errors():
        # pydantic puts the name of the chosen stage into the location of its keys.
        location = [str(part) for part in fault["loc"]]
        if len(location) > 2 and location[0] == "stage":
            del location[1]
        if location[0] == "stage":
            location[0] = stage_key
        key = ".".join(location)
        if fault["type"] == "missing":
            yield f"{key} is missing: set {key}=VALUE"
        elif fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(location[-1], _known_keys(), n=1)
            yield f"{key} is not a key" + (f": did you mean {near[0]}?" if near else ": remove it")
        elif fault["type"] in ("dict_type", "model_type"):
            yield f"{key}={fault['input']}: this is a map: write {maps.describe_map(key)}"
        elif fault["type"] == "list_type":
            yield f"{key}={fault['input']}: this is a list: write '{key}=[{fault['input']}]'"
        else:
            given = repr(fault["input"])
            shown = given if len(given) <= LONGEST else f"{given[:LONGEST]} …"
            yield f"{key}={shown}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _known_keys() -> set[str]:
    return {key for part in Part.__subclasses__() for key in part.model_fields}
