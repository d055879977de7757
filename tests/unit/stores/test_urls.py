"""What a URL of an image says about the environment that is needed to read it."""

from __future__ import annotations

import pytest

from vd100k.stores import urls


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (("photos", None), set()),
        (("s3://bucket/photos", None), {"AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL"}),
        (("list.jsonl", "az://container"), {"AZURE_STORAGE_ACCOUNT_KEY"}),
        (("hf://datasets/org/name", "s3://bucket"), {"HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL"}),
    ],
)
def test_other_machines_get_the_credentials_for_the_images_alone(
    places: tuple[str | None, ...], expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL", "AZURE_STORAGE_ACCOUNT_KEY", "HF_TOKEN", "HF_HOME", "OTHER"}
    for name in names:
        monkeypatch.setenv(name, "value")
    assert names & urls.credentials(*places).keys() == expected
