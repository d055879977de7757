"""Values that insert others, such as ``${output_dir}/images``, and what is wrong with those that cannot."""

from __future__ import annotations

import re

from omegaconf import DictConfig, OmegaConf

from vd100k.config.quoting import as_typed

NO_KEY = re.compile(r"Interpolation key '(.+)' not found")
NO_FUNCTION = re.compile(r"Unsupported interpolation type (\S+)")
NO_VARIABLE = re.compile(r".*Environment variable '(\w+)' not found.*")
REMEDY = "insert an existing key (--cfg job lists them)"


def describe(error: Exception, cfg: DictConfig | None = None) -> str:
    """A sentence about a value of ``cfg`` that OmegaConf cannot resolve: which one, why, and what to write."""
    text = str(error).split("\n", 1)[0]
    key = getattr(error, "full_key", None) if cfg is not None else None
    value = _written(cfg, key) if cfg is not None and key else None
    where = f"{key}={value}: " if value else f"{key}: " if key else ""
    typed = f", or take the text as it is: {as_typed(key, value)}" if key and value else ""
    if found := NO_VARIABLE.fullmatch(text):
        return f"{where}the environment variable {found[1]} is not set: set it, or write the value itself"
    if found := NO_KEY.fullmatch(text):
        return f"{where}${{{found[1]}}} inserts the value of a key, but there is no key {found[1]}: {REMEDY}{typed}"
    if found := NO_FUNCTION.fullmatch(text):
        return f"{where}${{{found[1]}:…}} calls a function, but there is none called {found[1]}: {REMEDY}{typed}"
    return f"{where}{text}"


def _written(cfg: DictConfig, key: str) -> str | None:
    """The value of a key as it was written."""
    parent, _, name = key.rpartition(".")
    owner = OmegaConf.select(cfg, parent) if parent else cfg
    node = owner._get_node(name) if isinstance(owner, DictConfig) else None
    value = getattr(node, "_value", lambda: None)()
    return value if isinstance(value, str) else None
