"""Errors that Hydra raises, in the words of this program: one message with the remedy, and exit code 1."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import hydra._internal.utils
from hydra.errors import CompactHydraException, HydraException
from omegaconf.errors import InterpolationResolutionError, UnsupportedInterpolationType

from vd100k.command_line import keys
from vd100k.config import interpolation
from vd100k.errors import Vd100kError

FULL_ERROR = "HYDRA_FULL_ERROR"
NOT_A_KEY = re.compile(r"Could not override '([^']+)'")
ADDED = re.compile(r"To append to your config use (\+.*)")
NOISE = re.compile(r"\n?(To append|To delete|See https?:|Set the environment variable|full_key|object_type)[^\n]*")


def install(conf: Path) -> None:
    """Let ``describe`` word every error that would end the program with Hydra's text or a stack trace."""

    def report(func: Any) -> Any:
        try:
            return func()
        except Exception as error:
            if os.environ.get(FULL_ERROR) == "1":
                raise
            print(describe(error, conf), file=sys.stderr)
            sys.exit(1)

    hydra._internal.utils.run_and_report = report


def describe(error: Exception, conf: Path) -> str:
    """The message for an error: ours as it is, Hydra's with a remedy, any other by its type."""
    text = str(error)
    if isinstance(error, Vd100kError):
        return text
    if found := NOT_A_KEY.match(text):
        added = ADDED.search(text)
        return _describe_key(found[1], conf, added[1] if added else "")
    if isinstance(error, InterpolationResolutionError | UnsupportedInterpolationType):
        return interpolation.describe(error)
    if isinstance(error, HydraException | CompactHydraException) or type(error).__module__.startswith("omegaconf"):
        return NOISE.sub("", text).strip()
    return (
        f"Unexpected error: {type(error).__name__}: {text}\n"
        f"{FULL_ERROR}=1 in front of the command shows the stack trace; please report it with that."
    )


def _describe_key(key: str, conf: Path, added: str) -> str:
    """A sentence about a key that the schema allows, but the composed configuration does not have.

    ``added`` is the override with which it would have it.
    """
    known = keys.Keys(conf, None)
    if known.form(key) == "map" and known.is_open(f"{key}.NAME"):
        return f"{key} does not have all of these entries so far: to add them as new options, write '{added}'."
    if known.is_open(key):
        near = known.near(key)
        meant = f"did you mean {' or '.join(near)}? To add" if near else "to add"
        return f"{key} is not set so far: {meant} it as a new option, write +{key}=VALUE."
    return known.problem(key) or f"{key} is not a key of this run: --cfg job shows the keys that it has."
