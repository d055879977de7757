"""Secrets removed from whatever is kept or shown: settings, command lines, error messages."""

from __future__ import annotations

import re
from typing import Any

REDACTED = "(hidden)"
# Names of settings whose values are secrets.
_SECRET = re.compile(r"(key|token|secret|passw(or)?d|passphrase|credentials?|auth(orization)?)$", re.IGNORECASE)
# A user name, or a user name and password, in a URL.
_LOGIN = re.compile(r"(?<=://)([^\s/@:]+|[^\s/@]*:[^\s@]*)@")
# A secret in the query of a URL.
_QUERY = re.compile(r"([?&][\w-]*(key|token|secret|sig|signature|password)=)[^&\s#'\"]+", re.IGNORECASE)
# NAME=VALUE or NAME: VALUE in running text.
_PAIR = re.compile(r"(\b[\w.-]*(key|token|secret|password)\s*[:=]\s*)[^\s,}\]'\"]+", re.IGNORECASE)


def names_secret(name: str) -> bool:
    """Whether a setting or an environment variable of this name has a secret as its value."""
    return _SECRET.search(name) is not None


def redact(value: Any, name: str = "") -> Any:
    """A JSON value without secrets: values of settings named like a secret, logins and keys in URLs."""
    if isinstance(value, dict):
        return {key: redact(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [redact(inner, name) for inner in value]
    if names_secret(name) and value is not None and not isinstance(value, bool):
        return REDACTED
    return _QUERY.sub(rf"\1{REDACTED}", _LOGIN.sub("", value)) if isinstance(value, str) else value


def redact_argument(argument: str) -> str:
    """A command-line argument (``KEY=VALUE``) without secrets."""
    key, given, _ = argument.partition("=")
    return f"{key}={REDACTED}" if given and names_secret(key) else _PAIR.sub(rf"\1{REDACTED}", redact(argument))
