"""``--help``: the groups and what each option is for, read from the first comment of each file.

Hydra's own listing composes a configuration first, which takes longer than reading this.
"""

from __future__ import annotations

from pathlib import Path

GROUPS = {
    "hardware": "hardware",
    "engine": "engine@hardware.engine",
    "model": "model  (model@teacher.model: who answers, if not the model that learns)",
    "stage": "stage",
    "task": "task",
    "format": "format",
    "tracking": "tracking",
    "experiment": "experiment",
}
INTRO = """\
vd100k: build a vision-language data set, fine-tune a Qwen-VL on it, serve the result.

  python run.py                                   the demo: the whole loop in miniature, no GPU needed
  python run.py stage=generate images=FOLDER hardware=api model=gpt-4o
  python run.py stage=serve hardware=t4x4 model=qwen2-vl-2b dry_run=true
"""
CLOSING = """\
GROUP=OPTION chooses one; single values are set the same way: limit=10 stage.max_in_flight=8
"task.prompt='What is this?'". dry_run=true shows what would run and starts nothing, --cfg job
prints all that is set, -m sweeps over a,b,c, --hydra-help lists Hydra's own flags.
"""


def text(conf: Path) -> str:
    """The whole help for the option files in ``conf``."""
    parts = [INTRO]
    for group, heading in GROUPS.items():
        options = {path.stem: _first_comment(path) for path in sorted((conf / group).glob("*.yaml"))}
        width = max(map(len, options))
        parts.append("\n".join([heading, *(f"  {name:{width}}  {line}" for name, line in options.items())]) + "\n")
    return "\n".join([*parts, CLOSING])


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(
        (line.removeprefix("#").strip() for line in lines if line.startswith("# ") and "@package" not in line), ""
    )
