"""``--help`` and the message for an unknown option, made from the first comment of each file in ``conf/``.

Hydra's own help composes a configuration first, which takes longer than reading these files.
"""

from __future__ import annotations

import difflib
import itertools
import re
from pathlib import Path

# How each group is chosen on the command line.
GROUPS = {
    "hardware": "hardware",
    "cluster": "cluster",
    "engine": "engine@hardware.engine",
    "model": "model",
    "stage": "stage",
    "task": "task",
    "format": "format",
    "verify": "verify",
    "tracking": "tracking",
    "experiment": "experiment",
}
TEACHER = "  (model@teacher.model, hardware@teacher.hardware: the model that produces the training answers)"
# The recipe in CONTRIBUTING.md for a new option of a group.
RECIPES = {
    "hardware": "Add a machine",
    "engine": "Add an engine",
    "model": "Add a model",
    "stage": "Add a stage",
    "task": "Add a task",
    "format": "Add an output format",
}
# Arguments that make Hydra look for options in other folders.
OTHER_FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp", "hydra.searchpath=")
NAME = re.compile(r"[\w./-]+")  # unlike ${…}, which only Hydra can resolve
INTRO = """\
vd100k: build a vision-language data set, fine-tune a Qwen-VL on it, serve the result.
"""
SHORT = f"""\
{INTRO}
  python run.py experiment=demo                   run the whole loop in miniature, without a GPU (seven minutes)
  python run.py stage=generate images=FOLDER hardware=api model=gpt-4o preview=5
  python run.py stage=generate images=FOLDER hardware=t4x4 model=qwen2-vl-2b dry_run=true
  python run.py experiment=gpt-distill images=FOLDER dry_run=true
  python run.py stage=serve hardware=single-gpu model=qwen2.5-vl-7b

These run the demo, look at five answers of GPT before paying for all, and show without starting anything how four
GPUs would answer and how a Qwen-VL would be fine-tuned; the last one serves a model. --help lists all choices.
"""
CLOSING = """\
GROUP=OPTION chooses an option. KEY=VALUE sets a single value: limit=10 stage.max_in_flight=8
"task.prompt='What is this?'". dry_run=true shows what would run and starts nothing, --cfg job
prints all settings, -m runs a sweep over KEY=A,B,C, --hydra-help lists Hydra's own flags.
docs/configuration.md describes every key.
"""


def text(conf: Path) -> str:
    """The help text for the option files in ``conf``."""
    parts = [SHORT.rpartition("\n\n")[0] + "\n"]
    for group, heading in GROUPS.items():
        options = {path.stem: first_comment(path) for path in sorted((conf / group).glob("*.yaml"))}
        width = max(map(len, options))
        title = heading + (TEACHER if group == "model" else "")
        parts.append("\n".join([title, *(f"  {name:{width}}  {line}" for name, line in options.items())]) + "\n")
    return "\n".join([*parts, CLOSING])


def unknown_option(argv: list[str], conf: Path) -> str | None:
    """A message about the first argument that chooses an option without a file in ``conf``; None if all exist.

    If an argument names other folders with options (``OTHER_FOLDERS``), Hydra looks for the option itself.
    """
    if any(argument.startswith(OTHER_FOLDERS) for argument in argv):
        return None
    for argument in argv:
        key, _, value = argument.partition("=")
        group = key.partition("@")[0]
        if group in GROUPS:
            options = sorted(path.stem for path in (conf / group).glob("*.yaml"))
            for name in value.split(","):
                if name in ("", "null", "None"):
                    return f"{argument}: choose an option ({', '.join(options)}), or leave the argument out."
                if NAME.fullmatch(name) and not (conf / group / f"{name}.yaml").exists():
                    return _missing(key, group, name, options)
    return None


def _missing(key: str, group: str, name: str, options: list[str]) -> str:
    near = difflib.get_close_matches(name, options, n=1)
    lines = [f"{key}={name}: there is no such option." + (f" Did you mean {near[0]}?" if near else "")]
    lines.append(f"Available: {', '.join(options)}")
    if group == "model":
        lines.append("Any other model: model=hf model.path=ORG/NAME (on the hub) or model=hf model.path=FOLDER.")
    if group == "hardware":
        lines.append(f"{key}=auto finds the GPUs of this machine.")
    if group in RECIPES:
        lines.append(f"To add it, create conf/{group}/{name}.yaml: CONTRIBUTING.md, “{RECIPES[group]}”, shows how.")
    return "\n".join(lines)


def first_comment(path: Path) -> str:
    """The first sentence of the comment above an option file, which says what the option is for."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    text = " ".join(line.removeprefix("#").strip() for line in lines if "@package" not in line)
    return re.split(r"(?<=\.) (?=[A-Z])", text)[0]
