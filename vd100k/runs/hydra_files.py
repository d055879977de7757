"""The configuration of a run as Hydra keeps it (``.hydra/``, ``multirun.yaml``), without secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vd100k.config import sweep_job
from vd100k.io.redaction import redact, redact_argument, remember


def remember_secrets(cfg: DictConfig) -> None:
    """Keep the secrets of a configuration out of everything that is printed or written from now on."""
    remember(OmegaConf.to_container(cfg, resolve=False, enum_to_str=True))


def write(cfg: DictConfig, folder: Path) -> None:
    """Write the three files of a run into ``folder``.

    Hydra's own copies would have the secrets, so ``hydra.output_subdir`` is null.
    """
    hydra_cfg = HydraConfig.instance().cfg
    settings = OmegaConf.to_container(cfg, resolve=False, enum_to_str=True)
    place = folder / ".hydra"
    place.mkdir(parents=True, exist_ok=True)
    _save(place / "config.yaml", redact(settings))
    _save(place / "hydra.yaml", redact(OmegaConf.to_container(hydra_cfg, resolve=False, enum_to_str=True)))
    _save(place / "overrides.yaml", [redact_argument(str(one)) for one in HydraConfig.get().overrides.task])
    if sweep_job.is_running() and HydraConfig.get().job.num == 0:  # one job of a sweep is enough
        redact_sweep(Path(HydraConfig.get().sweep.dir))


def redact_sweep(folder: Path) -> None:
    """Remove secrets from the ``multirun.yaml`` that Hydra writes into the folder of a sweep."""
    path = folder / "multirun.yaml"
    if path.exists():
        _save(path, redact(OmegaConf.to_container(OmegaConf.load(path), resolve=False, enum_to_str=True)))


def _save(path: Path, content: Any) -> None:
    text = OmegaConf.to_yaml(OmegaConf.create(content)) if content else "[]\n"
    path.write_bytes(text.encode(errors="backslashreplace"))
