"""A plugin for pytest-xdist that runs all engine tests on one worker: they share engines, and start first.

Loaded with ``-p tests.engine.one_worker``. Two workers would start every shared engine twice, and two trainings at
once on two cores take longer than one after the other. xdist's own ``--dist loadgroup`` sets ``Item._nodeid``, which
pytest 9.2 no longer reads.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling


class OneWorker(LoadScopeScheduling):
    """One work unit of all engine tests, the largest and therefore the first; every other test is its own."""

    def _split_scope(self, nodeid: str) -> str:
        return "engine" if nodeid.startswith("tests/engine/") else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneWorker:
    return OneWorker(config, log)
