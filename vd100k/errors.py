"""Errors a user can act on: what, where, and the remedy. Hydra prints them without a stack trace."""

from __future__ import annotations

from hydra.errors import CompactHydraException


class Vd100kError(CompactHydraException):
    """Anything that ends a run with a readable message."""


class ConfigError(Vd100kError):
    """The configuration cannot mean a run; the message lists every problem found."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        heading = (
            "The configuration has a problem:"
            if len(problems) == 1
            else f"The configuration has {len(problems)} problems:"
        )
        super().__init__("\n".join([heading, *(f"  - {problem}" for problem in problems)]))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[str]]]:
        """A launcher that runs jobs in other processes brings it back pickled."""
        return ConfigError, (self.problems,)


class DataError(Vd100kError):
    """A file or folder is missing, unreadable or not what it should be."""


class ServerError(Vd100kError):
    """A model server did not start, died, or refuses us."""


class TrainingError(Vd100kError):
    """The trainer or exporter ended with an error; the message ends with its own last lines."""
