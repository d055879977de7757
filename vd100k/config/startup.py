"""Shortcuts that let a run send its first request within a second. Each docstring states its gain on two cores."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import threading
from collections.abc import Iterator

from hydra._internal.hydra import Hydra


def skip_hydra_mode_lookup(argv: list[str]) -> None:
    """Save GAIN_MODE s: Hydra 1.3 composes every run a second time only to find ``hydra.mode``.

    Where the key is missing, it takes ``-m`` for the answer (hydra-ecosystem/hydra, issue 3440).
    """
    if not any("hydra.mode=" in argument for argument in argv):
        Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]


def preload_client(argv: list[str]) -> None:
    """Save GAIN_CLIENT s of a generation: aiohttp reads the system's certificates when imported, without the GIL."""
    if "stage=generate" in argv:
        threading.Thread(target=importlib.import_module, args=["aiohttp"], daemon=True).start()


def pause_gc() -> None:
    """Save GAIN_GC s: composing makes many objects that stay, and each collection examines all of them."""
    gc.disable()


def resume_gc() -> None:
    """Turn the garbage collector on again; it ignores the objects that exist now."""
    gc.freeze()
    gc.enable()


@contextlib.contextmanager
def without_pydantic_plugins() -> Iterator[None]:
    """Save GAIN_PLUGINS s: pydantic searches the metadata of every installed package for plugins."""
    name = "PYDANTIC_DISABLE_PLUGINS"
    before = os.environ.get(name)
    os.environ[name] = "__all__"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
