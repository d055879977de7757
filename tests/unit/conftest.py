"""Settings of hypothesis for all unit tests, and a model folder to change."""

from __future__ import annotations

import shutil
from pathlib import Path

import hypothesis
import pytest

from vd100k.tiny import checkpoint

# No time limit for one example: files are synced to a disk that other tests use as well.
hypothesis.settings.register_profile("vd100k", deadline=None)
hypothesis.settings.load_profile("vd100k")


@pytest.fixture(scope="session")
def whole_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model folder."""
    folder = tmp_path_factory.mktemp("model")
    checkpoint.unpack("student", folder)
    return folder


@pytest.fixture
def folder(whole_model: Path, tmp_path: Path) -> Path:
    """A copy of a complete model folder, which the test may change."""
    return shutil.copytree(whole_model, tmp_path / "model")
