"""Model folders: building the ones that a configuration can build, and checking that nothing is missing.

The checks cover what transformers and vLLM read: the configuration, the tokenizer and its chat template, the image
processor, and all weights. Engines detect most of these faults too, but minutes later and without the remedy.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.console import say
from vd100k.errors import DataError
from vd100k.io import hub as hubs
from vd100k.models import safetensors_header as tensors

CONFIGURED = (
    *("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"),
    "video_preprocessor_config.json",
    "args.json",  # written by ms-swift when it trains and exports
)
# The keys in these files that name Python code: for transformers, for mlx_vlm, and two for ms-swift.
CODE_KEYS = ("auto_map", "model_file", "external_plugins", "custom_register_path")
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",), ("qwen.tiktoken",))
TEMPLATES = ("chat_template.jinja", "chat_template.json")
IMAGE_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.(safetensors|bin)")
POINTER = b"version https://git-lfs"


def ensure(run: Run, trains: bool = False) -> None:
    """Check that the run's weights exist and are complete; a missing folder is built if ``model.build`` says how.

    A path that is neither a folder nor a possible hub name is refused here, where the remedy is known,
    rather than after the engine has asked the hub for it. ``trains`` says that ms-swift loads the weights
    instead of the run's engine.

    Raises:
        DataError: the folder is missing and cannot be built, or something in it is missing, broken or not allowed.
    """
    path = Path(run.model_path or "")
    if _can_be_built(run):
        say(f"building {path}")
        built = subprocess.run([sys.executable, *(run.model.build or [])], capture_output=True, text=True, check=False)
        if built.returncode or not path.exists():
            last = built.stderr.strip().splitlines()[-1:]
            raise DataError(f"{path}: building the model folder failed: {''.join(last)}")
    check(run, trains)


def check(run: Run, trains: bool = False) -> None:
    """Raise DataError as ``ensure`` does, but build nothing: a folder that can be built is in order."""
    named = run.model_path or ""
    if named.startswith("~"):
        raise DataError(f"model.path={named}: write the path without ~, which the engines do not expand.")
    path = Path(named)
    if _can_be_built(run):
        return
    if run.weights == "adapter":
        raise_if_faulty(run.paths.adapter, list(adapter_faults(run.paths.adapter, run.model.trust_remote_code)))
    if not path.exists():
        if run.weights == "merged":
            raise DataError(
                f"{path}: the exported model is missing. Create it with stage=export (after stage=finetune)."
            )
        if run.model.source == "local" or named.startswith((".", "/")) or named.count("/") > 1:
            raise DataError(f"{path}: the model folder does not exist. Set model.path=FOLDER or model.path=HUB_NAME.")
        if not run.model.trust_remote_code:
            raise_if_faulty(named, list(_hub_faults(run, named, trains)))
        return
    raise_if_faulty(path, list(faults(path, run.model.trust_remote_code)))


def _can_be_built(run: Run) -> bool:
    named = run.model_path or ""
    return bool(run.model.build) and run.weights != "merged" and not Path(named).exists() and named[:1] != "~"


def refuse_code(run: Run, options: dict[str, Any]) -> None:
    """Raise DataError if a folder that an option of ms-swift names asks to run code: ms-swift would do so."""
    if run.model.trust_remote_code:
        return
    for value in options.values():
        for named in value if isinstance(value, list) else [value]:
            if isinstance(named, str | Path) and (folder := Path(named)).is_dir():
                raise_if_faulty(folder, list(_json_faults(folder, trust_remote_code=False)))


def raise_if_faulty(folder: Path | str, found: list[str]) -> None:
    """Raise DataError with the list of faults unless it is empty."""
    if found:
        raise DataError("\n".join([f"{folder} cannot be served or trained:", *(f"  - {fault}" for fault in found)]))


def faults(folder: Path, trust_remote_code: bool) -> Iterator[str]:
    """The faults of a model folder, one line each, with the file and the remedy."""
    if not (folder / "config.json").exists():
        yield "config.json is missing, so this is not a model folder: set model.path=FOLDER or model.path=HUB_NAME"
        return
    yield from [] if trust_remote_code else _adapter_in_base(folder)
    yield from _json_faults(folder, trust_remote_code)
    config: dict[str, Any] = {}
    with contextlib.suppress(ValueError):  # it has been reported
        config = _content(folder / "config.json")
        if "model_type" not in config:
            yield "config.json has no model_type: set model.path to the folder of a transformers model"
    if not any(all((folder / name).exists() for name in names) for names in TOKENIZERS):
        yield "the tokenizer is missing: download tokenizer.json (or vocab.json and merges.txt)"
    if "vision_config" in config and not has_any(folder, IMAGE_PROCESSORS):
        yield "preprocessor_config.json (how images are prepared) is missing: download it"
    yield from _weight_faults(folder)


def adapter_faults(folder: Path, trust_remote_code: bool) -> Iterator[str]:
    """The faults of the folder of a LoRA adapter, in the same form as those of ``faults``."""
    if not (folder / "adapter_config.json").exists():
        yield "adapter_config.json is missing, so this is not an adapter: create one with stage=finetune"
        return
    yield from _json_faults(folder, trust_remote_code)
    yield from _file_faults(folder / "adapter_model.safetensors")


def _hub_faults(run: Run, name: str, trains: bool) -> Iterator[str]:
    """The faults of a model on a hub. The engine downloads it, and may run any code that comes with it."""
    try:
        folder = hubs.settings(run.model.source, name)
    except DataError as error:
        if trains or run.hardware.engine is None or run.hardware.engine.runs_code:
            yield from list(hubs.faults(run.model.source, name)) or [
                f"its settings cannot be downloaded ({error}), so they cannot be checked for code, which would run: "
                "set model.path=FOLDER, or if you trust the model, model.trust_remote_code=true"
            ]
        return
    yield from _adapter_in_base(folder)
    yield from _json_faults(folder, trust_remote_code=False)


def _adapter_in_base(folder: Path) -> Iterator[str]:
    if (folder / "adapter_config.json").exists():
        yield (
            "adapter_config.json makes transformers load the model that it names instead of this one, which is not "
            "checked: remove it, set model.path to that model, or if you trust both, set model.trust_remote_code=true"
        )


def _json_faults(folder: Path, trust_remote_code: bool) -> Iterator[str]:
    """Files that cannot be read, and so might name code, and files that name code; each file is judged by itself."""
    for name in CONFIGURED:
        try:
            named = list(_named_code(_content(folder / name)))
        except (ValueError, RecursionError) as error:
            yield f"{name} cannot be read ({error}): download it again"
            continue
        for key, value in [] if trust_remote_code else named:
            yield (
                f"{name} asks to run custom code ({key}: {', '.join(_code(value))}): review the code, "
                "and if you trust it, set model.trust_remote_code=true"
            )


def _named_code(content: Any) -> Iterator[tuple[str, Any]]:
    """The keys that name code with their values, at any depth: the settings of one part may be inside another's."""
    for key, value in content.items() if isinstance(content, dict) else ():
        if key in CODE_KEYS and value:
            yield key, value
    for inner in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _named_code(inner)


def has_chat_template(folder: Path) -> bool:
    """Whether the folder has the chat template that formats chat requests for the model."""
    return has_any(folder, TEMPLATES) or bool(_content(folder / "tokenizer_config.json").get("chat_template"))


def has_any(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).exists() for name in names)


def _content(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one if the file does not exist."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def _code(auto_map: Any) -> list[str]:
    """The names of the Python files that the value of one of ``CODE_KEYS`` refers to."""
    named = auto_map.values() if isinstance(auto_map, dict) else [auto_map]
    flat = [name for value in named for name in (value if isinstance(value, list) else [value]) if name]
    return sorted({str(name).split("--")[-1].split(".")[0].split("/")[-1] + ".py" for name in flat})


def _weight_faults(folder: Path) -> Iterator[str]:
    for kind in ("safetensors", "bin"):
        if index := next(iter(sorted(folder.glob(f"*.{kind}.index.json"))), None):
            yield from _index_faults(index)
            return
        files = sorted(path for path in folder.glob(f"*.{kind}") if not path.name.startswith("training_args"))
        if shard := next((found for path in files if (found := SHARD.fullmatch(path.name))), None):
            yield (
                f"{shard['stem']}.{kind}.index.json, the index of the {int(shard['count'])} shards of the weights "
                f"({len(files)} are present), is missing: download it"
            )
            return
        if files:
            for path in files:
                yield from _file_faults(path)
            return
    yield "the weights are missing: download model.safetensors (or the shards and their index)"


def _index_faults(index: Path) -> Iterator[str]:
    try:
        named = _content(index).get("weight_map")
    except ValueError as error:
        yield f"{index.name} cannot be read ({error}): download it again"
        return
    if not isinstance(named, dict) or not named:
        yield f"{index.name} has no weight_map: download it again"
        return
    for name in sorted({str(file) for file in named.values()}):
        found = list(_file_faults(index.parent / name, f" (listed in {index.name})"))
        yield from found
        if not found and name.endswith(".safetensors"):
            lost = {tensor for tensor, file in named.items() if file == name} - tensors.read(index.parent / name).keys()
            if lost:
                yield f"{name} lacks {len(lost)} tensors that {index.name} lists ({min(lost)}…): download both again"


def _file_faults(path: Path, named: str = "") -> Iterator[str]:
    if not path.exists():
        yield f"{path.name} is missing{named}: download it"
        return
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            yield f"{path.name} is a Git LFS pointer instead of the weights: run git lfs pull"
            return
    if path.suffix == ".safetensors":
        try:
            tensors.read(path)
        except ValueError as error:
            yield f"{path.name}: {error}: download it again"
    elif not path.stat().st_size:
        yield f"{path.name} is empty: download it again"
