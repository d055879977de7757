"""Secrets removed from whatever is kept or shown: settings, command lines, error messages, the terminal.

A secret is recognised by the name of its setting or environment variable, by its place in a URL or a header, or by its
shape. Those of this process are remembered, so that they are also found where a server repeats them without a name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

REDACTED = "(hidden)"
SHORTEST = 6  # characters; a shorter value is hidden by its name only, because it may be part of any word
NAME = r"(?:key|token|secret|passw(?:or)?d|passphrase|credentials?)"
# Names of settings and environment variables whose values are secrets.
_SECRET = re.compile(rf"({NAME}|auth(orization)?)$", re.IGNORECASE)
_ENVIRONMENTS = {"env", "env_set"}  # settings that hold environment variables of other programs
# A value of an environment variable that may be a password whatever its name is: a mixture of letters and digits.
_LIKELY = re.compile(r"(?=.*\d)(?=.*[A-Z])(?=.*[a-z])[^\s/.${\[][^\s/:,]{7,}$")
# A user name, or a user name and password, in a URL; what follows a colon may also be a port and a path.
_LOGIN = re.compile(r"(?<=://)([^\s/@:]{1,200}|[^\s/@:]{0,200}:(?!\d{1,5}[/,])[^\s@]{0,200})@")
# A secret in the query of a URL.
_QUERY = re.compile(rf"([?&][\w-]{{0,40}}(?:{NAME}|sig|signature)=)([^&\s#'\"]+)", re.IGNORECASE)
# NAME=VALUE in running text, also in quotes; NAME: VALUE only if the value looks like a secret, since "token: dog" and
# "Basic information" are ordinary English.
_WORD = rf"(?<![A-Za-z])(?:api|access|auth|client|private|session)?[-_]?{NAME}[\"']?"
_COMPOUND = rf"\b[\w.-]{{1,60}}[-_]{NAME}[\"']?"
_PAIR = re.compile(
    rf"((?:{_WORD}=|{_COMPOUND}\s?:\s?)[\"']?)[^\s,&}}\]'\"…]+"
    rf"|({_WORD}\s?:\s?[\"']?)(?=[^\s,}}\]'\"]*\d)[^\s,}}\]'\"…]{{6,}}",
    re.IGNORECASE,
)
# An Authorization header.
_HEADER = re.compile(r"\b(Bearer|Basic) (?=\S*\d)[\w.~+/=-]{16,}", re.IGNORECASE)
# Keys of OpenAI and Anthropic, Hugging Face, AWS, GitHub, Google.
_SHAPE = re.compile(r"\b(sk-[\w-]{16,}|hf_\w{16,}|AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|AIza[\w-]{35})")

_remembered: set[str] = set()


def remember(value: Any, name: str = "") -> None:
    """Have ``redact`` remove the secrets in a setting, or a secret itself (``name="key"``), from every text."""
    for secret in _secrets(value, name, False):
        _remembered.update(one for one in (secret, unquote(secret)) if len(one) >= SHORTEST)


def remember_argument(argument: str) -> None:
    """Remember the secrets in a command-line argument (``KEY=VALUE``)."""
    key, _, value = argument.lstrip("+~").partition("=")
    parent, _, name = key.rpartition(".")
    remember({parent.rpartition(".")[2]: {name: value}})


def names_secret(name: str) -> bool:
    """Whether a setting or an environment variable of this name has a secret as its value."""
    return _SECRET.search(name) is not None


def redact(value: Any, name: str = "") -> Any:
    """A JSON value without secrets: values of settings named like a secret, logins and keys in URLs, known keys."""
    return _redacted(value, name, False, _known())


def redact_argument(argument: str) -> str:
    """A command-line argument (``KEY=VALUE``) without secrets."""
    key, given, value = argument.partition("=")
    in_environment = bool(_ENVIRONMENTS & set(key.split(".")))
    if given and value and (_SECRET.search(key) or (in_environment and _LIKELY.match(value))):
        return f"{key}={REDACTED}"
    text: str = redact(argument)
    return text


def _redacted(value: Any, name: str, in_environment: bool, known: re.Pattern[str] | None) -> Any:
    if isinstance(value, dict):
        inside = name in _ENVIRONMENTS
        return {key: _redacted(inner, str(key), inside, known) for key, inner in value.items()}
    if isinstance(value, list):
        return [_redacted(inner, name, in_environment, known) for inner in value]
    if _is_secret(value, name, in_environment):
        return REDACTED
    if not isinstance(value, str):
        return value
    text = _QUERY.sub(rf"\1{REDACTED}", _LOGIN.sub("", value))
    text = _PAIR.sub(lambda found: f"{found[1] or found[2]}{REDACTED}", _HEADER.sub(rf"\1 {REDACTED}", text))
    text = _SHAPE.sub(REDACTED, text)
    return known.sub(REDACTED, text) if known else text


def _secrets(value: Any, name: str, in_environment: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _secrets(inner, str(key), name in _ENVIRONMENTS)
    elif isinstance(value, list):
        for inner in value:
            yield from _secrets(inner, name, in_environment)
    elif _is_secret(value, name, in_environment):
        yield str(value)
    elif isinstance(value, str):
        if name.endswith("_env"):  # the name of an environment variable with a secret
            yield os.environ.get(value, "")
        yield from (match[1].partition(":")[2] or match[1] for match in _LOGIN.finditer(value))
        yield from (match[2] for match in _QUERY.finditer(value))


def _is_secret(value: Any, name: str, in_environment: bool) -> bool:
    if value is None or isinstance(value, bool):
        return False
    if isinstance(value, str) and value.startswith("${"):  # the configuration refers to another key
        return False
    return bool(_SECRET.search(name)) or (in_environment and isinstance(value, str) and bool(_LIKELY.match(value)))


def _known() -> re.Pattern[str] | None:
    """A pattern for the remembered secrets and those in the environment."""
    found = {value for name, value in os.environ.items() if len(value) >= SHORTEST and _SECRET.search(name)}
    found |= _remembered
    return re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True)))) if found else None
