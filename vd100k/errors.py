"""Errors that a user can fix. The message says what failed, where, and the remedy; Hydra prints no stack trace."""

from __future__ import annotations

from hydra.errors import CompactHydraException


class Vd100kError(CompactHydraException):
    """The base class of all errors that end a run with a readable message."""


class ConfigError(Vd100kError):
    """The configuration is invalid. The message lists all problems."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        heading = (
            "The configuration has a problem:"
            if len(problems) == 1
            else f"The configuration has {len(problems)} problems:"
        )
        super().__init__("\n".join([heading, *(f"  - {problem}" for problem in problems)]))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[str]]]:
        """Support pickling, because launchers return the error from another process."""
        return ConfigError, (self.problems,)


class DataError(Vd100kError):
    """A file or folder is missing, unreadable or has the wrong content."""


class ServerError(Vd100kError):
    """A model server did not start, exited, cannot be reached or refuses requests."""


class TrainingError(Vd100kError):
    """The trainer or exporter failed. The message ends with the last lines of its output."""
