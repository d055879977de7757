"""Functions that configuration files call, such as ``${or_else:…}`` and ``${joined:…}``."""

from __future__ import annotations

import math
import os
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf


def or_else(value: Any, default: Any) -> Any:
    """``value``, or ``default`` if it is null, false or empty."""
    return value or (OmegaConf.create(default) if isinstance(default, list) else default)


def when(condition: Any, value: Any) -> Any:
    """``value`` if ``condition`` is set, else null."""
    return None if condition is None else value


def joined(*names: object) -> str:
    """Those of the names that are set, with dashes between them."""
    return "-".join(str(name) for name in names if name is not None)


def listed(names: ListConfig, separator: str, otherwise: str) -> str:
    """The names with a separator between them; ``otherwise`` if there are none."""
    return separator.join(map(str, names)) or otherwise


def pick(key: str, mapping: DictConfig) -> Any:
    """The value of a key of a mapping; null if it has none."""
    return mapping.get(key)


def product(*numbers: float) -> int:
    """The product of numbers, at least 1, without a fraction."""
    return max(1, math.floor(math.prod(numbers)))


def language(texts: DictConfig) -> str:
    """The language of the user's locale, zh or en; if there are no texts in it, the first one that has texts."""
    locale = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    if locale.partition(".")[0] not in ("", "C", "POSIX"):
        locale = os.environ.get("LANGUAGE") or locale  # a list of languages, which GNU's programs obey first
    wanted = "zh" if locale.lower().startswith("zh") else "en"
    return wanted if wanted in texts or not texts else str(next(iter(texts)))


def register() -> None:
    """Make all of them known to OmegaConf."""
    for resolver in (or_else, when, joined, listed, pick, product, language):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
