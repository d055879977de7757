"""What several drivers have asked is complete, or the run says that it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from vd100k.config.run import Run
from vd100k.drivers.run import _require_all
from vd100k.errors import DataError
from vd100k.ledger.rows import Ledger


def test_an_image_that_no_driver_saw_is_reported(light_run: Callable[..., Run], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("answered", "failed", "forgotten"):
        Image.new("RGB", (32, 32)).save(folder / f"{name}.png")
    run = light_run("stage=generate", f"images={folder}")
    with Ledger(tmp_path / "rows.jsonl", {}) as ledger:
        ledger.append({"id": "answered.png", "answer": "a"})
        ledger.fail("failed.png", "http_500", "no answer", 3, retryable=True)
    with Ledger(tmp_path / "rows.jsonl", {}) as ledger:
        with pytest.raises(DataError, match=r"forgotten\.png, and perhaps others, were not asked about"):
            _require_all(run, ledger)
        ledger.fail("forgotten.png", "http_400", "refused", 1)
        _require_all(run, ledger)
