"""The model hubs Hugging Face and ModelScope, and their caches on this machine."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vd100k.errors import DataError

CONNECT_TIMEOUT_S = 4.0


def faults(source: str, name: str) -> Iterator[str]:
    """The reason why the model ``name`` is not available, if it is not in the cache and the hub cannot be reached."""
    if source == "local":
        yield f"model.path={name} is not a folder, and model.source=local allows nothing else: set model.path=FOLDER"
    elif not cached(source, name) and not reachable(source):
        other = "modelscope" if source == "hf" else "hf"
        yield (
            f"{name} is not in the cache of {source}, and {address(source)} cannot be reached: "
            f"download the model on a machine with network access and set model.path=FOLDER, or try "
            f"model.source={other}"
        )


def cached(source: str, name: str) -> Path | None:
    """The folder of the model in the hub's cache on this machine; None if its config.json is not there."""
    if source == "hf":
        model, revision = _hugging_face_cache() / f"models--{name.replace('/', '--')}", "main"
        with contextlib.suppress(OSError):
            revision = (model / "refs/main").read_text(encoding="utf-8")
        found = model / "snapshots" / revision
        return found if (found / "config.json").is_file() else None
    cache = Path(os.environ.get("MODELSCOPE_CACHE", "~/.cache/modelscope")).expanduser()
    # Newer and older versions of ModelScope name the folders differently.
    new, old = name.replace("/", "--"), name.replace(".", "___")
    patterns = (f"models/{new}/snapshots/*", f"hub/models/{old}", f"hub/{old}", f"models/{old}", old)
    return next((found.parent for inner in patterns for found in cache.glob(f"{inner}/config.json")), None)


def _hugging_face_cache() -> Path:
    """The folder of the cache, found without huggingface_hub, whose import takes a third of a second.

    Source: ``constants.py`` and ``try_to_load_from_cache`` of huggingface_hub 1.
    """
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(cache)).expanduser()


def folder(source: str, name: str) -> Path | None:
    """The folder of a model on this machine: the one that ``name`` is, or the one in the hub's cache."""
    if Path(name).is_dir():
        return Path(name)
    return None if _is_path(source, name) else cached(source, name)


def _is_path(source: str, name: str) -> bool:
    """Whether a name can only be a folder."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or source == "local"


@functools.cache
def model_config(source: str, name: str) -> dict[str, Any] | str:
    """The ``config.json`` of a folder or of a model on the hub, in its cache or there; or why it is not available."""
    found = folder(source, name)
    if found is None and _is_path(source, name):
        return "there is no such folder"
    try:
        found = found or settings(source, name, ("config.json", "preprocessor_config.json", "processor_config.json"))
        content = json.loads((found / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "the folder has no config.json"
    except (OSError, ValueError) as error:
        return f"its config.json cannot be read ({error})"
    except DataError as error:
        if not reachable(source):
            return f"it is not in the cache of {source}, and {address(source)} cannot be reached"
        return f"{address(source)} does not give its config.json ({error})"
    return content if isinstance(content, dict) else "its config.json is not a JSON object"


def settings(source: str, name: str, files: tuple[str, ...] = ("*.json",)) -> Path:
    """A folder with the JSON files of a model, downloaded unless the hub cannot be reached and its cache has them.

    Raises:
        DataError: they are not available.
    """
    cache_only = not reachable(source)
    try:
        library = importlib.import_module("huggingface_hub" if source == "hf" else "modelscope")
        folder = Path(library.snapshot_download(name, allow_patterns=list(files), local_files_only=cache_only))
    except Exception as error:  # of many kinds, some of the library's own
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{type(error).__name__}: {reason}") from error
    if not (folder / "config.json").exists():
        raise DataError(f"{folder} has no config.json")
    return folder


def reachable(source: str) -> bool:
    """Whether the hub, or the proxy on the way to it, accepts connections."""
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
    connected = threading.Event()

    def connect() -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((url.hostname or "", port), CONNECT_TIMEOUT_S),
        ):
            connected.set()

    # In a thread, because a DNS lookup without a network can take much longer than the timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_TIMEOUT_S)
    return connected.is_set()


def address(source: str) -> str:
    """The URL of the hub, from the settings of its own library."""
    if source == "hf":
        from huggingface_hub.constants import ENDPOINT

        return ENDPOINT
    if endpoint := os.environ.get("MODELSCOPE_ENDPOINT"):
        return endpoint
    return f"https://{os.environ.get('MODELSCOPE_DOMAIN', 'www.modelscope.cn')}"
