"""The other tasks of an evaluation: their configuration, composed as ``task=NAME`` would be."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from vd100k.config.conf_folder import conf_folder


def given(cfg: DictConfig) -> Iterator[tuple[int, str, DictConfig]]:
    """The number, the name and the settings of each; what is not in order is reported by the schema."""
    also = cfg.stage.get("also") if cfg.stage.get("name") == "evaluate" else None
    for k, one in enumerate(also if isinstance(also, ListConfig) else ()):
        if isinstance(one, DictConfig) and {"task", "images", "labels"} <= set(one) and isinstance(one.task, str):
            yield k, str(one.get("name") or one.task), one


def unknown(name: str) -> str | None:
    """A sentence about a task that does not exist, with the one that may be meant; None if it exists."""
    if _file(name):
        return None
    known = sorted({path.stem for folder in _folders() for path in (folder / "task").glob("*.yaml")})
    near = difflib.get_close_matches(name, known, n=1)
    return f"no such task: did you mean {near[0]}?" if near else f"no such task: the tasks are {', '.join(known)}"


def changes(cfg: DictConfig, name: str, other: DictConfig) -> dict[str, Any]:
    """The nodes of a run that evaluates another task: the same models, with answers in a folder of their own."""
    file = _file(other.task)
    assert file is not None
    base = next(one for folder in _folders() if (one := folder / "config.yaml").is_file())
    option, shared = OmegaConf.load(file), OmegaConf.load(base)
    assert isinstance(option, DictConfig)
    assert isinstance(shared, DictConfig)
    option.pop("defaults", None)
    task = OmegaConf.merge(shared.task, option)
    assert isinstance(task, DictConfig)
    if cfg.task.get("language") in task.get("texts", {}):
        task.language = cfg.task.language
    stage = OmegaConf.to_container(cfg.stage, resolve=True)
    assert isinstance(stage, dict)
    own = {"images": other.images, "labels": other.labels, "folder": f"{stage['folder']}/also/{name}"}
    kept = OmegaConf.to_container(cfg.paths, resolve=True)  # the weights and training files are those of the run
    return {"task": task, "stage": stage | own | {"slices": [], "also": [], "judge": False}, "paths": kept}


def _file(name: str) -> Path | None:
    return next((file for folder in _folders() if (file := folder / "task" / f"{name}.yaml").is_file()), None)


def _folders() -> list[Path]:
    """The folders in which options are looked for, as Hydra does."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else []
    given = [Path(one.path) for one in sources if one.schema == "file"]
    return [*given, conf_folder()]
