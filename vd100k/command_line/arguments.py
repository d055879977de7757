"""The command line before Hydra reads it: mistyped keys are explained, and texts are quoted for Hydra's grammar."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from vd100k.command_line import keys
from vd100k.config import maps
from vd100k.config.quoting import as_typed, quote
from vd100k.errors import ConfigError

OVERRIDE = re.compile(r"(?P<prefix>\+\+|\+|~|)(?P<key>[^=]*)(?P<value>=.*|)", re.DOTALL)
# Texts that Hydra reads as they are. Of the words, it makes numbers, booleans and null.
PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)$)[A-Za-z_/.][\w./-]*", re.ASCII | re.IGNORECASE)
# A value that is meant for Hydra: quoted, an interpolation, null, or a call such as choice(a,b).
HYDRAS = re.compile(
    r"""null|'.*'|".*"|.*\$\{.*|(?:choice|range|interval|glob|shuffle|sort|tag|extend_list)\(.*\)""", re.DOTALL
)

DASHED = re.compile(r"-[a-z_][\w.@/]+", re.IGNORECASE)  # what argparse would read as a short flag with its value
NOT_A_CHOICE = re.compile(r"argument ([^:]+): invalid choice: (.+) \(choose from (.+)\)")


def prepared(argv: list[str], conf: Path) -> list[str]:
    """The arguments with every text quoted that Hydra would refuse or change.

    Raises:
        ConfigError: arguments that are not NAME=VALUE, keys that do not exist, values that cannot be read.
    """
    flags, unknown = _flags(argv)
    if flags.shell_completion:
        return argv
    overrides = set(flags.overrides)
    chosen = {key: value.removeprefix("=") for _, key, value in map(_split, flags.overrides)}
    known = keys.Keys(conf, chosen.get("stage"))
    words = {flag: word for flag, word in itertools.pairwise(argv) if flag in unknown and _is_bare_word(word)}
    problems = [_describe_flag(argument, words.get(argument), known) for argument in unknown]
    result = []
    for argument in argv:
        if argument in overrides and argument not in words.values():
            argument = _quoted(argument, known, flags.multirun)
            problems += _problems(argument, known, flags.multirun)
        result.append(argument)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return result


def _flags(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Hydra's own flags and the overrides, and what is neither."""

    def fail(message: str) -> NoReturn:
        if found := NOT_A_CHOICE.fullmatch(message):
            raise ConfigError([f"{found[1]} cannot be {found[2]}: choose one of {found[3]}"])
        raise ConfigError([f"{message.removeprefix('argument ')}: --hydra-help explains the flags"])

    parser = get_args_parser()
    parser.error = fail  # type: ignore[method-assign]
    flags = parser._option_string_actions
    settings = [one for one in argv if DASHED.fullmatch(one.partition("=")[0]) and one.partition("=")[0] not in flags]
    parsed, unknown = parser.parse_known_args([one for one in argv if one not in settings])
    return parsed, [one for one in argv if one in settings or one in unknown]


def _split(argument: str) -> tuple[str, str, str]:
    found = OVERRIDE.fullmatch(argument)
    assert found
    return found["prefix"], found["key"], found["value"]


def _is_bare_word(argument: str) -> bool:
    return "=" not in argument and not argument.startswith(("-", "+", "~"))


def _describe_flag(argument: str, word: str | None, known: keys.Keys) -> str:
    """A sentence about a setting that is written with dashes; ``word`` is the argument after it, if not a setting."""
    name, _, value = argument.lstrip("-").partition("=")
    name = name.replace("-", "_")
    given = f"{argument} {word}" if word and not value else argument
    meant = [name] if known.kind(name) or known.is_group(name) else known.near(name)
    if not meant:
        return f"{given}: there is no such flag: --help lists the settings, --hydra-help the flags"
    value = value or word or ("true" if known.is_switch(meant[0]) else "VALUE")
    return f"{given}: settings have no leading dash: write {meant[0]}={value}"


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
        yield f"{argument}: the value cannot be read: {_form(prefix + key, value.removeprefix('='), known)}"
        return
    if override.is_sweep_override() and not multirun:
        yield f"{argument} sets several values: choose one, or add -m to run once for each"


def _form(key: str, text: str, known: keys.Keys) -> str:
    """How a value is written that Hydra cannot read."""
    form = known.form(key.lstrip("+")) or {"{": "map", "[": "list"}.get(text[0])
    if form == "map":
        return f"a map is written in braces: '{key}={maps.map_example(key)}'"
    if form == "list":
        return f"a list is written in brackets: '{key}=[A,B]'"
    return f"put a text in quotes, inside those of the shell: {as_typed(key, text)}"


def _describe_word(argument: str, known: keys.Keys) -> str:
    if group := known.group_of(argument):
        return f"{argument}: settings are NAME=VALUE: write {group}={argument}"
    if known.kind(argument):
        return f"{argument}: settings are NAME=VALUE, and this one has no value: write {argument}=VALUE"
    return f"{argument}: settings are NAME=VALUE, such as stage=generate; --help lists them"
