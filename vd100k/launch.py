"""From the command line to a stage, and from exceptions to messages and exit codes."""

from __future__ import annotations

import contextlib
import importlib.metadata
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vd100k import help
from vd100k.command_line import startup
from vd100k.config import resolvers
from vd100k.config.conf_folder import conf_folder
from vd100k.errors import ConfigError

if TYPE_CHECKING:
    from types import FrameType

    from vd100k.config.stages import AnyStage

LOOK_BACK = {"report", "compare"}  # stages about earlier runs
SAYS_WHAT = {"stage", "experiment"}  # one of these must be given
SHOWS_ONLY = {"--cfg", "-c", "--info", "-i", "--hydra-help", "--shell-completion", "-sc"}

resolvers.register()


def main() -> int:
    """Run the command line.

    Returns the exit code: 0; 1 for an error; 130, 143 or 129 after SIGINT (Ctrl-C), SIGTERM or SIGHUP.
    """
    conf = conf_folder()
    argv = sys.argv[1:]
    if {"--help", "-h"} & set(argv):
        print(help.text(conf))
        return 0
    if "--version" in argv:
        print(f"vd100k {importlib.metadata.version('vd100k')}")
        return 0
    if not argv:
        print(help.SHORT)
        return 0
    _hide_secrets()
    if message := help.unknown_option(argv, conf):
        print(message, file=sys.stderr)
        return 1
    try:
        sys.argv[1:] = _checked(argv, conf)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    from vd100k.command_line import hydra_errors

    startup.skip_hydra_mode_lookup(sys.argv)
    startup.pause_gc()
    hydra_errors.install(conf)
    # SIGINT also if a shell started this in the background with interrupts ignored; nohup ignores SIGHUP on purpose.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        hydra.main(version_base="1.3", config_path=str(conf), config_name="config")(run)()
    except KeyboardInterrupt as interrupt:
        print("Interrupted. All results so far are kept: the same command continues from there.", file=sys.stderr)
        return 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)
    finally:
        from vd100k.comparing import sweeps  # Hydra has imported it by now, as a callback

        sweeps.write_table_of_this_process()
    return 0


def _checked(argv: list[str], conf: Path) -> list[str]:
    """The arguments as Hydra can read them.

    Raises:
        ConfigError: an argument is wrong, or none says what to do.
    """
    from vd100k.command_line import arguments

    if any(argument.startswith("hardware") and argument.endswith("=auto") for argument in argv):
        from vd100k.engines import machine

        argv = machine.resolved(argv)
    argv = arguments.prepared(argv, conf)
    given = {argument.partition("=")[0].lstrip("+") for argument in argv}
    if not given & SAYS_WHAT and not given & SHOWS_ONLY:
        raise ConfigError([f"nothing says what to do: add stage=… or experiment=…\n\n{help.SHORT}"])
    return argv


def run(cfg: DictConfig) -> float | None:
    """Check a composed configuration, then run its stage, or print what it would do.

    Returns the value that a search over many such runs optimises (``sweep.metric``).

    Raises:
        Vd100kError: the configuration is wrong, or the stage failed.
    """
    from vd100k import stages
    from vd100k.comparing import sweeps
    from vd100k.config import sweep_job
    from vd100k.config.parse import parse
    from vd100k.console import say
    from vd100k.errors import DataError
    from vd100k.io import atomic
    from vd100k.models import size
    from vd100k.runs import closing, hydra_files
    from vd100k.runs.summary import Summary

    folder = Path(HydraConfig.get().runtime.output_dir)
    command = sweep_job.command(sys.argv)
    hydra_files.remember_secrets(cfg)
    try:
        with startup.without_pydantic_plugins():
            checked = parse(cfg)
        for line in size.warnings(checked):
            say(line)
        if checked.dry_run:
            for line in stages.plan(checked):
                say(line)
            if missing := stages.faults(checked):
                raise DataError("\n".join(f"missing: {fault}" for fault in missing))
            return None
        hydra_files.write(cfg, folder)
    except ConfigError as error:
        if sweep_job.is_running():
            hydra_files.write(cfg, folder)
            Summary(str(OmegaConf.select(cfg, "stage.name")), error=str(error)).write(folder, command)
        raise
    finally:
        _remove_if_empty(folder)
    if group := sweep_job.group():
        checked = checked.in_group(group)
    if not _looks_back(checked.stage):
        with contextlib.suppress(OSError):
            atomic.link(checked.output_dir / "latest", folder.resolve())
    stages.module(checked.stage.name)  # its imports are part of what the garbage collector need not examine
    startup.resume_gc()
    summary = stages.execute(checked, folder, command)
    for line in closing.lines(checked, summary, folder, sys.argv):
        say(line)
    return sweeps.objective(checked, summary)


def _looks_back(stage: AnyStage) -> bool:
    """Whether a stage is about earlier runs, so that it does not become the last one."""
    return stage.name in LOOK_BACK or getattr(stage, "action", "start") != "start"


def _remove_if_empty(folder: Path) -> None:
    """Remove the run folder, and that of its day, if nothing was written there."""
    with contextlib.suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()


def _hide_secrets() -> None:
    """Keep secrets off the terminal, and out of stderr also what would control it; Hydra prints the overrides there."""
    from vd100k.console import Filtered, harmless
    from vd100k.io.redaction import redact, remember_argument

    for argument in sys.argv[1:]:
        remember_argument(argument)
    sys.stdout = cast(TextIO, Filtered(sys.stdout, redact))
    sys.stderr = cast(TextIO, Filtered(sys.stderr, lambda text: harmless(redact(_without_job_failed(text)))))


def _without_job_failed(text: str) -> str:
    """Nothing instead of Hydra's line with all overrides, which it prints before the message of an error."""
    return "" if text.startswith("Error executing job with overrides") else text


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)
