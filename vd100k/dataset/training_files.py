"""The files of a converted data set: a writer for each side, and the file that describes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from vd100k.config.run import Run
from vd100k.config.stages import Convert
from vd100k.console import say
from vd100k.conversion import formats
from vd100k.conversion.run import Outcome
from vd100k.io import atomic
from vd100k.io.writers import JsonWriter, ParquetWriter, Writer

SIDES = ("train", "val", "test")
SUFFIXES = {"swift": ".jsonl", "sharegpt": ".json", "vd100k": ".json"}


def writers(run: Run, stage: Convert, groups: bool) -> dict[str, Callable[[], Writer]]:
    """A function for each side that makes its writer, in the format of the run."""
    name = run.format.name
    if name == "parquet":
        make = partial(
            ParquetWriter, stage.folder / "data", stage.rejected is not None, run.task.reader == "choice", groups
        )
        return {side: partial(make, side) for side in SIDES}
    suffix = SUFFIXES[name]
    make_lines = partial(JsonWriter, array=suffix == ".json")
    names = [*SIDES, *(f"{side}.text" for side in SIDES if stage.text_rows == "apart")]
    optional = {"test", *names[len(SIDES) :]}
    return {name: partial(make_lines, stage.folder / f"{name}{suffix}", optional=name in optional) for name in names}


def describe(run: Run, stage: Convert, outcome: Outcome, verified: str | None) -> None:
    """Write the file that describes the data: LLaMA-Factory's dataset_info.json, or a data-set card.

    ``verified`` is what is known about the share of wrong answers.
    """
    name = run.format.name
    if name in ("sharegpt", "vd100k"):
        images, system = ("images", True) if name == "sharegpt" else ("image", bool(run.task.system_prompt))
        info: dict[str, Any] = {}
        for side in outcome.sides:
            entry = f"{run.dataset}_{run.task.name}_{side}"
            info |= formats.dataset_info(entry, f"{side}.json", images, system, stage.rejected is not None)
        atomic.write_json(stage.folder / "dataset_info.json", info)
    elif name == "parquet":
        atomic.replace(
            stage.folder / "README.md", [_card(run, stage, outcome, verified).encode(errors="backslashreplace")]
        )
        if not stage.license:
            say(f"The data-set card names no license. Set {run.key}.license=NAME before you share {stage.folder}.")


def _card(run: Run, stage: Convert, outcome: Outcome, verified: str | None) -> str:
    text = (files("vd100k.dataset") / "card.md.j2").read_text(encoding="utf-8")
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(text).render(
        name=run.dataset,
        license=stage.license,
        key=run.key,
        splits={side: rows for side, rows in outcome.sides.items() if rows},
        total=outcome.written,
        pairs=stage.rejected is not None,
        models=sorted(outcome.models),
        rejected=run.rejected,
        reasons=dict(outcome.reasons.most_common()),
        verified=verified,
        system=run.task.system_prompt,
        prompt=run.task.prompt,
        example=json.dumps(outcome.example, ensure_ascii=False, indent=2),
    )
