"""Where a model's weights come from when they are not in a folder: Hugging Face or ModelScope, or their caches."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from vd100k.config.run import Model

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


def cached(source: str, name: str) -> Path | None:
    """The model's folder in the hub's cache on this machine; None if not even its configuration is there."""
    if source == "hf":
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, "config.json")
        return Path(found).parent if isinstance(found, str) else None
    cache = Path(os.environ.get("MODELSCOPE_CACHE", "~/.cache/modelscope")).expanduser()
    # How ModelScope names folders: of late, and before.
    late, before = name.replace("/", "--"), name.replace(".", "___")
    patterns = (f"models/{late}/snapshots/*", f"hub/models/{before}", f"hub/{before}", f"models/{before}", before)
    return next((found.parent for inner in patterns for found in cache.glob(f"{inner}/config.json")), None)


def settings(source: str, name: str) -> Path | None:
    """A folder with the JSON files of the hub's model, fetched if they are not in its cache; None if they cannot be."""
    here_only = not reachable(source)
    try:
        library = importlib.import_module("huggingface_hub" if source == "hf" else "modelscope")
        return Path(library.snapshot_download(name, allow_patterns=["*.json"], local_files_only=here_only))
    except Exception:  # whatever it is, the engine will say it of the weights
        return None


def reachable(source: str) -> bool:
    """Whether somebody answers at the hub's address, or at the proxy before it."""
    if source == "hf":
        from huggingface_hub.constants import HF_HUB_OFFLINE

        if HF_HUB_OFFLINE:
            return False
    url = urllib.parse.urlsplit(address(source))
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(url.hostname or ""):
        url = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = url.port or (80 if url.scheme == "http" else 443)
    answered = threading.Event()

    def knock() -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((url.hostname or "", port), REACH_S),
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
    if endpoint := os.environ.get("MODELSCOPE_ENDPOINT"):
        return endpoint
    return f"https://{os.environ.get('MODELSCOPE_DOMAIN', 'www.modelscope.cn')}"
