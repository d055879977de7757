"""Settings of hypothesis for all unit tests."""

from __future__ import annotations

import hypothesis

# No time limit for one example: files are synced to a disk that other tests use as well.
hypothesis.settings.register_profile("vd100k", deadline=None)
hypothesis.settings.load_profile("vd100k")
