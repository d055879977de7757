"""From the command line to a stage: resolvers, the demo as default, signals, and how errors are shown."""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vd100k import help

if TYPE_CHECKING:
    from types import FrameType

    from vd100k.config.run import Run


LOOK_BACK = {"report", "compare"}  # stages that are about earlier runs
OWN_WORK = {"stage", "experiment", "images", "dataset", "model", "task"}


def main(task: Callable[[], object]) -> int:
    """Call a Hydra task function, with the demo when nothing is asked for; the exit code, 130 after Ctrl-C."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(help.text(Path(sys.argv[0]).parent / "conf"))
        return 0
    sys.argv[1:] = with_demo(sys.argv[1:])
    if not any("hydra.mode=" in argument for argument in sys.argv):
        # Hydra 1.3 composes all of a run beforehand to look for this key, and takes -m for an answer where it is not
        # there: 0.2 s of every start (hydra-ecosystem/hydra 3440).
        Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]
    if "stage=generate" in sys.argv:
        # It reads the system's certificates twice when imported, on a second core here: 0.05 s.
        threading.Thread(target=importlib.import_module, args=["aiohttp"], daemon=True).start()
    gc.disable()  # until the configuration is there: composing makes much that stays, and a tenth of the time is saved
    # Also where a shell started us in the background, with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup means it
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        task()
    except KeyboardInterrupt:
        print("Interrupted. What was made is kept: the same command goes on from there.", file=sys.stderr)
        return 130
    finally:
        if sweeps := sys.modules.get("vd100k.runs.sweeps"):
            sweeps.conclude()
    return 0


def with_demo(argv: list[str]) -> list[str]:
    """The arguments, with ``experiment=demo`` where none of them says what to do, or with what."""
    asked = {argument.partition("=")[0] for argument in argv}
    return argv if asked & OWN_WORK else [*argv, "experiment=demo"]


def run(cfg: DictConfig) -> float | None:
    """Check all of a composed configuration, then run its stage, or print what it would do.

    Returns what a search over many such runs goes by (``sweep.metric``).
    """
    from vd100k import stages
    from vd100k.config.parse import parse
    from vd100k.console import say
    from vd100k.errors import ConfigError
    from vd100k.runs import sweeps
    from vd100k.runs.summary import Summary

    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        checked = parse(cfg)
    except ConfigError as error:
        if sweeps.under_way():
            Summary(str(cfg.stage.get("name")), error=str(error)).write(folder, sweeps.command(sys.argv))
        raise
    if checked.dry_run:
        for line in stages.plan(checked):
            say(line)
        return None
    if group := sweeps.group():
        checked = checked.in_group(group)
    if checked.stage.name not in LOOK_BACK:
        _link_latest(checked, folder)
    summary = stages.execute(checked, folder, sweeps.command(sys.argv))
    page = folder / "report.html"
    say(
        f"\n{summary.stage} ended well in {summary.seconds:.0f} s: {page if page.exists() else folder / 'summary.json'}"
    )
    return sweeps.objective(checked, summary)


def folder_name(path: str | int | None) -> str | None:
    """A data set's default name: its folder's, or its list's without the suffix."""
    if path is None:
        return None
    source = Path(str(path)).expanduser().resolve()
    return source.stem if source.suffix in {".jsonl", ".csv"} else source.name


def _link_latest(checked: Run, folder: Path) -> None:
    """``outputs/latest`` -> this run's folder, replaced in one step: runs may start together."""
    fresh = checked.output_dir / f".latest.{os.getpid()}"
    with contextlib.suppress(OSError):
        checked.output_dir.mkdir(parents=True, exist_ok=True)
        fresh.symlink_to(folder.resolve(), target_is_directory=True)
        fresh.replace(checked.output_dir / "latest")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def variant(keys: list[str]) -> str | None:
    """What a sweep's job trains under, null elsewhere."""
    from vd100k.runs import sweeps

    return sweeps.variant(keys)


def or_else(given: Any, other: Any) -> Any:
    """The first where there is something in it; a list as OmegaConf wants them."""
    return given or (OmegaConf.create(other) if isinstance(other, list) else other)


def joined(*names: object) -> str:
    """The names there are, with dashes between them."""
    return "-".join(str(name) for name in names if name is not None)


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
OmegaConf.register_new_resolver("variant", variant, replace=True)
OmegaConf.register_new_resolver("joined", joined, replace=True)
# What a map has for a key; null if nothing.
OmegaConf.register_new_resolver("pick", lambda key, map: map.get(key), replace=True)
OmegaConf.register_new_resolver("product", lambda *numbers: math.prod(numbers), replace=True)
OmegaConf.register_new_resolver("half", lambda number: max(1, number // 2), replace=True)
OmegaConf.register_new_resolver("comma", ",".join, replace=True)
# The name under which some servers serve a path.
OmegaConf.register_new_resolver(
    "folder_or_name", lambda path: Path(path).name if Path(path).is_dir() else path, replace=True
)
OmegaConf.register_new_resolver("or_else", or_else, replace=True)
# A value that depends on another being there.
OmegaConf.register_new_resolver("when", lambda given, value: None if given is None else value, replace=True)
