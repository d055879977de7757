"""From the command line to a stage, and from exceptions to messages and exit codes."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vd100k import help
from vd100k.config import resolvers, startup

if TYPE_CHECKING:
    from types import FrameType

LOOK_BACK = {"report", "compare"}  # stages about earlier runs
# Groups and keys that say what to do, or with what; without any of them, the demo runs.
OWN_WORK = {"stage", "experiment", "images", "dataset", "model", "task"}

resolvers.register()


def main(task: Callable[[], object]) -> int:
    """Call a Hydra task function, with the demo if the command line asks for nothing.

    Returns the exit code: 0, 1 for an error before Hydra starts, 130 after Ctrl-C. Hydra itself exits
    with 1 on errors.
    """
    conf = Path(sys.argv[0]).parent / "conf"
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(help.text(conf))
        return 0
    if message := help.unknown_option(sys.argv[1:], conf):
        print(message, file=sys.stderr)
        return 1
    sys.argv[1:] = with_demo(sys.argv[1:])
    _hide_secrets()
    startup.skip_hydra_mode_lookup(sys.argv)
    startup.pause_gc()
    # Also if a shell started this in the background with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it on purpose
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        task()
    except KeyboardInterrupt:
        print("Interrupted. All results so far are kept: the same command continues from there.", file=sys.stderr)
        return 130
    finally:
        from vd100k.runs import sweeps  # Hydra has imported it by now, as a callback

        sweeps.write_table_of_this_process()
    return 0


def with_demo(argv: list[str]) -> list[str]:
    """The arguments, with ``experiment=demo`` added if none of them says what to do, or with what."""
    given = {argument.partition("=")[0] for argument in argv}
    return argv if given & OWN_WORK else [*argv, "experiment=demo"]


def run(cfg: DictConfig) -> float | None:
    """Check a composed configuration, then run its stage, or print what it would do.

    Returns the value that a search over many such runs optimises (``sweep.metric``).

    Raises:
        Vd100kError: the configuration is wrong, or the stage failed.
    """
    from vd100k import stages
    from vd100k.config import sweep_job
    from vd100k.config.parse import parse
    from vd100k.console import say
    from vd100k.errors import ConfigError
    from vd100k.io import atomic
    from vd100k.runs import hydra_files, sweeps
    from vd100k.runs.summary import Summary

    folder = Path(HydraConfig.get().runtime.output_dir)
    command = sweep_job.command(sys.argv)
    hydra_files.write(cfg, folder)
    try:
        checked = parse(cfg)
    except ConfigError as error:
        if sweep_job.is_running():
            Summary(str(OmegaConf.select(cfg, "stage.name")), error=str(error)).write(folder, command)
        raise
    if checked.dry_run:
        for line in stages.plan(checked):
            say(line)
        return None
    if group := sweep_job.group():
        checked = checked.in_group(group)
    if checked.stage.name not in LOOK_BACK:
        with contextlib.suppress(OSError):
            atomic.link(checked.output_dir / "latest", folder.resolve())
    stages.module(checked.stage.name)  # its imports are part of what the garbage collector need not examine
    startup.resume_gc()
    summary = stages.execute(checked, folder, command)
    page = folder / "report.html"
    say(f"\n{summary.stage} finished in {summary.seconds:.0f} s: {page if page.exists() else folder / 'summary.json'}")
    return sweeps.objective(checked, summary)


def _hide_secrets() -> None:
    """Keep secrets off the terminal, and out of stderr also what would control it; Hydra prints the overrides there."""
    from vd100k.console import Filtered, harmless
    from vd100k.io.redaction import redact, remember_argument

    for argument in sys.argv[1:]:
        remember_argument(argument)
    sys.stdout = cast(TextIO, Filtered(sys.stdout, redact))
    sys.stderr = cast(TextIO, Filtered(sys.stderr, lambda text: harmless(redact(text))))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
