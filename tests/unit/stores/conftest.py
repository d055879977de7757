"""A local S3 server that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.object_storage import Storage, object_storage


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with object_storage(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture
def cloud(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """The server, whose address and keys are in the environment of the commands of a test."""
    for name, value in storage.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return storage
