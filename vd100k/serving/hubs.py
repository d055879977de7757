"""Where a model's weights come from when they are not in a folder: Hugging Face or ModelScope, or their caches."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from vd100k.config import Model

REACH_S = 4.0


def faults(model: Model, name: str) -> Iterator[str]:
    """Why the hub's model ``name`` cannot be had, if it is not in the cache and the hub is out of reach."""
    if model.source == "local":
        yield f"model.source=local, and model.path={name} is no folder: set model.path=FOLDER"
    elif not cached(model.source, name) and not reachable(model.source):
        other = "modelscope" if model.source == "hf" else "hf"
        yield (
            f"{name} is not in the cache of {model.source}, and {address(model.source)} cannot be reached from here: "
            f"fetch it where there is a network and set model.path=FOLDER, or try model.source={other}"
        )


def cached(source: str, name: str) -> bool:
    """Whether the model's configuration lies in the hub's cache on this machine."""
    if source == "hf":
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    cache = Path(os.environ.get("MODELSCOPE_CACHE", "~/.cache/modelscope/hub")).expanduser()
    flat = name.replace(".", "___")  # how ModelScope names folders
    return any((cache / inner / one / "config.json").exists() for inner in ("models", ".") for one in (name, flat))


def reachable(source: str) -> bool:
    """Whether somebody answers at the hub's address, or at the proxy before it."""
    if source == "hf" and os.environ.get("HF_HUB_OFFLINE", "0") not in ("0", ""):
        return False
    url = urllib.parse.urlsplit(address(source))
    proxy = os.environ.get(f"{url.scheme}_proxy") or os.environ.get(f"{url.scheme.upper()}_PROXY")
    asked = urllib.parse.urlsplit(proxy) if proxy else url
    answered = threading.Event()

    def knock() -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((asked.hostname or "", asked.port or 443), REACH_S),
        ):
            answered.set()

    # In a thread: looking a name up without a network may take much longer than we want to wait.
    knocking = threading.Thread(target=knock, daemon=True)
    knocking.start()
    knocking.join(REACH_S)
    return answered.is_set()


def address(source: str) -> str:
    """The hub's address, as its own library has it."""
    if source == "hf":
        from huggingface_hub.constants import ENDPOINT

        return ENDPOINT
    return f"https://{os.environ.get('MODELSCOPE_DOMAIN', 'www.modelscope.cn')}"
