"""The command lines of the jobs of a sweep."""

from __future__ import annotations

import pytest

from vd100k.sweeping.launcher import _flags


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["run.py", "-m", "stage=serve"], []),
        (["run.py", "-m", "--config-dir", "mine", "stage=serve"], ["--config-dir", "mine"]),
        (["run.py", "-m", "--config-dir=mine", "-cn", "other"], ["-cn", "other", "--config-dir=mine"]),
    ],
)
def test_jobs_find_the_configuration_of_the_sweep(argv: list[str], expected: list[str]) -> None:
    assert _flags(argv) == expected
