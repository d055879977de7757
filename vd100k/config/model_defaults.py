"""What the option of a model leaves out: names, and what its family and its own files say about it."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from omegaconf import DictConfig

from vd100k.io import hub
from vd100k.io.preprocessor import ImageSizes, image_sizes

UNCHOSEN = "none"  # the name of the model of a run for which none was chosen
OTHER = "other"  # the entry of conf/base/families.yaml for models of no other entry
FACTS = (
    "model_type",
    "template",
    "default_system",
    "thinking",
    "box_notation",
)  # of a family; its sizes may be overruled by the checkpoint
NO_MODEL = """\
no model is chosen: set one of these (python run.py --help lists more)
      an API key              hardware=api model=gpt-4o
      your own GPU            hardware=single-gpu model=qwen2-vl-7b
      any OpenAI-compatible   hardware=api 'hardware.urls=[http://HOST:PORT/v1]' model.served_name=NAME"""


def complete(model: DictConfig, families: DictConfig, here: bool, trains: bool) -> list[str]:
    """Set what is null in a model in place; what nothing decides stays null. Returns the problems.

    ``families`` maps the ``model_type`` of a ``config.json`` to the facts of the family. Only a model without
    ``model_type`` is looked up there. ``here`` says that the weights are loaded on this machine, so that the
    files of the checkpoint count, and ``trains`` that they are trained.
    """
    path, served = model.get("path"), model.get("served_name")
    if not model.get("name") and (path or served):
        model.name = _last_part(path or served).lower()
    if not served:
        model.served_name = _last_part(path) if path and not model.get("build") else model.get("name")
    problems = []
    if path == "":
        problems = ["model.path is missing: set model.path=ORG/NAME, a model on the hub, or model.path=FOLDER"]
    family = _family_of(model, families)
    if path and not family and not model.get("model_type") and not model.get("build"):
        family, problems = _look_up(model, families)
    for fact in FACTS:
        if model.get(fact) is None:
            model[fact] = family.get(fact)
    folder = hub.folder(str(model.get("source")), str(path)) if path and here else None
    stated = image_sizes(folder) if folder else None
    return problems + _set_sizes(model, stated, {**families[OTHER], **family}, trains)


def _family_of(model: DictConfig, families: DictConfig) -> dict[str, Any]:
    """The facts of the family with ms-swift's ``model_type`` of a model; none if no family has it."""
    named = (dict(family) for family in families.values() if family.get("model_type") == model.get("model_type"))
    return next(named, {}) if model.get("model_type") else {}


def _look_up(model: DictConfig, families: DictConfig) -> tuple[dict[str, Any], list[str]]:
    """The facts of the family that a model's ``config.json`` names, and what keeps them from being found."""
    config = hub.model_config(str(model.get("source")), str(model.path))
    if isinstance(config, str):
        return {}, [
            f"model.path={model.path}: {config}: set model.path=FOLDER, or the keys that are read from it, for example "
            "model.model_type=qwen2_5_vl model.template=qwen2_5_vl (ms-swift's names)"
        ]
    quantized = config.get("quantization_config")
    if model.get("quantization") is None and isinstance(quantized, dict):
        model.quantization = str(quantized.get("quant_method"))
    return dict(families.get(str(config.get("model_type"))) or {}), []


def _set_sizes(model: DictConfig, stated: ImageSizes | None, family: dict[str, Any], trains: bool) -> list[str]:
    """Set the sizes of images from the key, the checkpoint, or the family, in this order; return contradictions."""
    if model.get("token_side") is None:
        model.token_side = (stated and stated.token_side) or family["token_side"]
    most = stated.max_pixels if stated else None
    if model.get("max_pixels") is None:
        model.max_pixels = min(family["max_pixels"], most or family["max_pixels"])
    chosen = model.get("min_pixels") or (stated and stated.min_pixels)
    cap = model.max_pixels
    model.min_pixels = chosen or (
        min(family["min_pixels"], cap) if isinstance(cap, int) and cap > 0 else family["min_pixels"]
    )
    if not isinstance(cap, int) or cap < 1 or not isinstance(model.min_pixels, int):
        return []  # the schema says what is wrong
    if cap < model.min_pixels:
        where = f"{stated.file} enlarges" if stated and stated.min_pixels == model.min_pixels else "the model enlarges"
        return [
            f"model.max_pixels={cap} is below the {model.min_pixels} pixels to which {where} smaller images: set "
            f"model.max_pixels={model.min_pixels} or more"
        ]
    if trains and stated and most and cap > most:
        return [
            f"model.max_pixels={cap} is above the largest image of the checkpoint, {most} pixels ({stated.file}), so "
            "whoever serves the trained model without this setting shows it other images than it was trained on: set "
            f"model.max_pixels={most}, or raise max_pixels in that file"
        ]
    return []


def _last_part(path: str) -> str:
    """The last part of a folder, a hub name, or the name of a model in an API."""
    return PurePath(str(path)).name
