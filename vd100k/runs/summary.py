"""``summary.json``: what a run did, written to its run folder however the run ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from vd100k.config.run import Run
from vd100k.images.paths import folder_of
from vd100k.io import fingerprint
from vd100k.io.atomic import write_json
from vd100k.io.redaction import redact, redact_argument
from vd100k.io.versions import versions


@dataclass
class Summary:
    """The outcome of a stage; ``steps`` holds the summaries of a pipeline's steps.

    ``certainty`` says how far the metrics of an evaluation can be trusted (``evaluation.certainty``).
    ``copies`` are pictures of images that show the same, side by side: ``picture`` (a path), ``first``, ``second``.
    ``image_folders`` are the declared folders of its images: a report shows no picture from anywhere else.
    """

    stage: str
    status: str = "failed"  # until it is ok, or interrupted
    counts: dict[str, Any] = field(default_factory=dict)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    certainty: dict[str, Any] = field(default_factory=dict)
    copies: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None
    image_folders: list[str] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    started: str = field(default_factory=lambda: datetime.now().astimezone().isoformat(timespec="seconds"))

    def figures(self) -> dict[str, float]:
        """All single numbers in ``counts`` and ``metrics``, such as ``after/exact_match``; of a curve, the last."""
        return figures(asdict(self))

    def add_copies(self, copies: list[dict[str, str]]) -> None:
        """Let the report show pairs of images side by side, in pictures that were made for it."""
        self.copies += copies
        self.image_folders += dict.fromkeys(str(Path(one["picture"]).parent) for one in copies)

    def write(self, folder: Path, command: list[str]) -> None:
        """Write it, with the command, the versions and the commit that it was made with."""
        origin = {"command": list(map(redact_argument, command)), "versions": versions(), "commit": _commit()}
        write_json(folder / "summary.json", redact(asdict(self)) | origin)


def image_folders(run: Run) -> list[str]:
    """The folder that a stage's images must be in: the configured one, or that of its images or list of images."""
    images = getattr(run.stage, "images", None) or run.images
    return [folder_of(images or "", run.image_folder)] if images or run.image_folder else []


def figures(summary: dict[str, Any]) -> dict[str, float]:
    """``Summary.figures`` of the content of a ``summary.json``."""
    return dict([*_numbers(summary.get("counts", {})), *_numbers(summary.get("metrics", {}))])


def settings(run: Run) -> dict[str, Any]:
    """All settings of a run as JSON, without secrets."""
    plain: dict[str, Any] = redact(run.model_dump(mode="json", exclude={"parts", "key"}))
    return plain


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}/{key}" if name else str(key))
    elif isinstance(value, list):
        last = value[-1] if value else None
        yield from _numbers(last[-1] if isinstance(last, list | tuple) and last else None, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def folder_facts(path: Path) -> list[dict[str, Any]]:
    """``file_facts`` of each weight file in a model folder."""
    return [file_facts(file) for file in sorted(path.glob("*.safetensors"))]


def file_facts(path: Path, rows: int | None = None) -> dict[str, Any]:
    """The path, the number of rows and the sha256 of a file, for ``inputs`` and ``outputs``."""
    return {"path": str(path), "rows": rows, "sha256": fingerprint.of_file(path)}


def _commit() -> str | None:
    import subprocess

    try:
        here = Path(__file__).parent
        git = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return git.stdout.strip() or None
