"""What a run knows about the sweep (``-m``) that it is a job of."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from vd100k.io import fingerprint
from vd100k.io.redaction import redact_argument

TRAINS = {"finetune", "pipeline"}  # stages
# Keys that need no place in the name of a trained model: they decide nothing of it, or its path names them already.
NOT_IN_VARIANT = re.compile(
    r"(stage|model|dataset|images|task|answers|rejected|experiment|dry_run|(.*\.)?(port|cuda_devices)"
    r"|(tracking|hydra|sweep|teacher|judge|verify)(\..+)?|.*@(teacher|judge)\..+)$"
)
MAX_NAME = 60  # characters of a folder name for one value


def is_running() -> bool:
    """Whether this run is a job of a sweep, also of one that runs each job as a command of its own."""
    if not HydraConfig.initialized():
        return False
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return True
    given: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return any(map(_is_keys, given))


def _is_keys(override: object) -> bool:
    return str(override).startswith("sweep.keys=")


def group() -> str | None:
    """The tracking group of a sweep's jobs; None outside a sweep."""
    return Path(HydraConfig.get().sweep.dir).name if is_running() else None


def command(argv: list[str]) -> list[str]:
    """The command line of this run; for a job of a sweep, the command line of that job alone."""
    if not is_running():
        return argv
    return [argv[0], *(one for one in HydraConfig.get().overrides.task if not _is_keys(one))]


def overrides_by_key(overrides: Iterable[object]) -> dict[str, str]:
    """Overrides as key and value, without secrets; the last one of a key counts."""
    split = (redact_argument(str(override)).lstrip("+~").partition("=") for override in overrides)
    return {key: value for key, _, value in split}


def variant(keys: list[str]) -> str | None:
    """A name made of the values that this job has for the swept ``keys`` that decide a training.

    None outside a sweep, and for jobs that train nothing: they look for models under the plain name.
    """
    if not is_running() or HydraConfig.get().runtime.choices.get("stage") not in TRAINS:
        return None
    values = overrides_by_key(HydraConfig.get().overrides.task)
    if "finetune" not in values.get("stage.steps", "finetune"):
        return None
    named = [key for key in keys if key in values and not NOT_IN_VARIANT.match(key)]
    ends = [key.rsplit(".", 1)[-1] for key in named]
    ambiguous = len(set(ends)) < len(ends)  # two keys have the same last part
    parts = (f"{key if ambiguous else end}-{_plain(values[key])}" for key, end in zip(named, ends, strict=True))
    return "_".join(parts).replace("/", ".") or None


def _plain(value: str) -> str:
    """A value as a file name that needs no quoting; a hash keeps apart values that look alike then."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", value)[:MAX_NAME].strip("_")
    return plain if plain == value else f"{plain}-{fingerprint.of(value)[:6]}".lstrip("-")
