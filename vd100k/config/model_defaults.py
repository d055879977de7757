"""What the option of a model leaves out: its names, and ms-swift's names of its family, from its ``config.json``."""

from __future__ import annotations

from pathlib import PurePath

from omegaconf import DictConfig

from vd100k.io import hub

UNCHOSEN = "none"  # the name of the model of a run for which none was chosen
NO_MODEL = """\
no model is chosen: set one of these (python run.py --help lists more)
      an API key              hardware=api model=gpt-4o
      your own GPU            hardware=single-gpu model=qwen2-vl-7b
      any OpenAI-compatible   hardware=api 'hardware.urls=[http://HOST:PORT/v1]' model.served_name=NAME"""


def complete(model: DictConfig, families: DictConfig) -> list[str]:
    """Set the names and the family of a model in place; what nothing decides stays null.

    ``families`` maps the ``model_type`` of a ``config.json`` to ms-swift's ``model_type`` and ``template``.
    Only a model without ``model_type`` is looked up. Returns the problems.
    """
    if model.get("path") == "":
        return ["model.path is missing: set model.path=ORG/NAME, a model on the hub, or model.path=FOLDER"]
    path, served = model.get("path"), model.get("served_name")
    if not model.get("name") and (path or served):
        model.name = _last_part(path or served).lower()
    if not served:
        model.served_name = _last_part(path) if path and not model.get("build") else model.get("name")
    if path and not model.get("model_type") and not model.get("build"):
        return _set_family(model, families)
    return []


def _set_family(model: DictConfig, families: DictConfig) -> list[str]:
    config = hub.model_config(str(model.get("source")), str(model.path))
    if isinstance(config, str):
        return [
            f"model.path={model.path}: {config}: set model.path=FOLDER, or the keys that are read from it, for example "
            "model.model_type=qwen2_5_vl model.template=qwen2_5_vl (ms-swift's names)"
        ]
    family = families.get(str(config.get("model_type"))) or {}
    model.model_type = family.get("model_type")
    model.template = model.get("template") or family.get("template")
    return []


def _last_part(path: str) -> str:
    """The last part of a folder, a hub name, or the name of a model in an API."""
    return PurePath(str(path)).name
