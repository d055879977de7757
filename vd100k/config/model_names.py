"""The names that a model has if its option does not set them."""

from __future__ import annotations

from pathlib import PurePath

from omegaconf import DictConfig

UNCHOSEN = "none"  # the name of the model of a run for which none was chosen


def complete(model: DictConfig) -> None:
    """Set ``name`` and ``served_name`` of a model in place; both stay null if nothing names it."""
    path, served = model.get("path"), model.get("served_name")
    if not model.get("name") and (path or served):
        model.name = _last_part(path or served).lower()
    if not served:
        model.served_name = _last_part(path) if path and not model.get("build") else model.get("name")


def _last_part(path: str) -> str:
    """The last part of a folder, a hub name, or the name of a model in an API."""
    return PurePath(str(path)).name
