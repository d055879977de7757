"""W&B: offline without a key, and never a reason to fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vd100k.config import Run
from vd100k.tracking import track


def test_without_a_key_it_is_kept_offline(
    parsed: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with track(parsed("stage=generate", "images=p", "tracking=wandb"), tmp_path) as log:
        log({"step": 1, "train/loss": 2.0})
        log({"step": 2, "train/loss": 1.0})
    kept = list(tmp_path.rglob("run-*.wandb"))
    assert len(kept) == 1
    assert kept[0].stat().st_size > 0


def test_what_it_raises_does_not_end_the_run(
    parsed: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "no-such-mode")
    with track(parsed("stage=generate", "images=p", "tracking=wandb"), tmp_path) as log:
        log({"step": 1})
    assert "goes on without it" in capsys.readouterr().out
