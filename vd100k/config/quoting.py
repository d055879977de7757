"""Texts as they are written on a command line, for the shell, for Hydra's grammar and for OmegaConf."""

from __future__ import annotations

import re
import shlex


def quote(text: str) -> str:
    """The text as a quoted value of Hydra's grammar, where only backslashes before a quote have a meaning."""
    escaped = re.sub(r"(\\*)(')", lambda found: found[1] * 2 + r"\'", text)
    escaped = re.sub(r"\\+$", lambda found: found[0] * 2, escaped)
    return f"'{escaped}'"


def as_typed(key: str, text: str) -> str:
    """The argument, as one types it in a shell, that sets a key to exactly this text."""
    text = escaped(text)
    return in_shell(f"{key}={quote(text)}" if set("'\"") & set(text) or text.endswith("\\") else f'{key}="{text}"')


def escaped(text: str) -> str:
    """A text in which OmegaConf inserts nothing."""
    return re.sub(r"(?<!\\)\$\{", r"\${", text)


def in_shell(argument: str) -> str:
    """An argument as one types it in a shell: in double quotes, if that is possible, because its value has others."""
    return shlex.quote(argument) if re.search(r'["$`\\!]', argument) else f'"{argument}"'
