"""The command line before Hydra reads it: mistyped keys are explained, and texts are quoted for Hydra's grammar."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from vd100k.config import keys
from vd100k.errors import ConfigError

OVERRIDE = re.compile(r"(?P<prefix>\+\+|\+|~|)(?P<key>[^=]*)(?P<value>=.*|)", re.DOTALL)
# Texts that Hydra reads as they are. Of the words, it makes numbers, booleans and null.
PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[A-Za-z_/.][\w./-]*", re.ASCII | re.IGNORECASE)
# A value that is meant for Hydra: quoted, an interpolation, null, or a call such as choice(a,b).
HYDRAS = re.compile(
    r"""null|'.*'|".*"|.*\$\{.*|(?:choice|range|interval|glob|shuffle|sort|tag|extend_list)\(.*\)""", re.DOTALL
)


def prepared(argv: list[str], conf: Path) -> list[str]:
    """The arguments with every text quoted that Hydra would refuse or change.

    Raises:
        ConfigError: arguments that are not NAME=VALUE, keys that do not exist, values that cannot be read.
    """
    flags, unknown = _flags(argv)
    if flags.shell_completion:
        return argv
    overrides = set(flags.overrides)
    problems = [_describe_flag(argument) for argument in unknown]
    chosen = {key: value.removeprefix("=") for _, key, value in map(_split, flags.overrides)}
    known = keys.Keys(conf, chosen.get("stage"))
    result = []
    for argument in argv:
        if argument in overrides:
            argument = _quoted(argument, known, flags.multirun)
            problems += _problems(argument, known, flags.multirun)
        result.append(argument)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return result


def _flags(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Hydra's own flags and the overrides, and what is neither."""

    def fail(message: str) -> NoReturn:
        raise ConfigError([f"{message}. Settings are NAME=VALUE; --hydra-help lists the flags"])

    parser = get_args_parser()
    parser.error = fail  # type: ignore[method-assign]
    return parser.parse_known_args(argv)


def _split(argument: str) -> tuple[str, str, str]:
    found = OVERRIDE.fullmatch(argument)
    assert found
    return found["prefix"], found["key"], found["value"]


def _describe_flag(argument: str) -> str:
    name, _, value = argument.lstrip("-").partition("=")
    near = difflib.get_close_matches(name.replace("-", "_"), keys.top_level(), n=1)
    hint = f"write {near[0]}={value or 'VALUE'}" if near else "--help lists the settings"
    return f"{argument} is not a flag; settings are NAME=VALUE: {hint}"


def _quoted(argument: str, known: keys.Keys, multirun: bool) -> str:
    """The override with its value in quotes if it is a text that Hydra would not read as it is."""
    prefix, key, value = _split(argument)
    text = value.removeprefix("=")
    if not text or HYDRAS.fullmatch(text) or PLAIN.fullmatch(text):
        return argument
    several = "," in text
    if several and multirun and not Path(text).expanduser().exists():
        return argument
    kind = known.kind(key)
    return f"{prefix}{key}={quote(text)}" if kind == "text" or (kind == "text or number" and several) else argument


def quote(text: str) -> str:
    """The text as a quoted value of Hydra's grammar, where only backslashes before a quote have a meaning."""
    escaped = re.sub(r"(\\*)(')", lambda found: found[1] * 2 + r"\'", text)
    escaped = re.sub(r"\\+$", lambda found: found[0] * 2, escaped)
    return f"'{escaped}'"


def in_shell(argument: str) -> str:
    """An argument as one types it in a shell: in double quotes, if that is possible, because its value has others."""
    return shlex.quote(argument) if re.search(r'["$`\\!]', argument) else f'"{argument}"'


def _problems(argument: str, known: keys.Keys, multirun: bool) -> Iterator[str]:
    prefix, key, value = _split(argument)
    if not key or (not value and prefix != "~"):
        yield _describe_word(argument, known)
        return
    if not prefix and (problem := known.problem(key)):
        yield problem
        return
    if prefix == "~" and known.is_group(key):
        yield f"{argument}: a run needs this: choose an option with {key}=OPTION, or leave the argument out"
        return
    if prefix == "~" and known.kind(key) and not known.is_open(key):
        yield f"{argument}: this cannot be removed: write {key}=null, or leave the argument out"
        return
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException:
        text = value.removeprefix("=")
        example = in_shell(f"{prefix}{key}={quote(text)}")
        remedy = f"if it is a text, quote it twice: {example}; a list is '{key}=[A,B]'"
        yield f"{argument}: the value cannot be read: {remedy}"
        return
    if override.is_sweep_override() and not multirun:
        yield f"{argument} sets several values: choose one, or add -m to run once for each"


def _describe_word(argument: str, known: keys.Keys) -> str:
    if group := known.group_of(argument):
        return f"{argument}: settings are NAME=VALUE: write {group}={argument}"
    if known.kind(argument):
        return f"{argument}: settings are NAME=VALUE, and this one has no value: write {argument}=VALUE"
    return f"{argument}: settings are NAME=VALUE, such as stage=generate; --help lists them"
