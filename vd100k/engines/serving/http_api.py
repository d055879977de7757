"""The HTTP API of our own servers: JSON requests without a proxy, the list of models, and the API key."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from vd100k.config.run import Run

PROBE_S = 2.0  # timeout of a request for the list of models


def request_json(url: str, key: str | None, timeout_s: float, body: bytes | None = None) -> Any:
    """The JSON response of one of our servers, without a proxy or a redirect; None if there is no valid response."""
    import http.client  # slow to import, and runs that use servers elsewhere do not need it
    import json
    from urllib import request

    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    direct = request.OpenerDirector()
    # No handler for redirects: urllib would send the key to any other host that a response names.
    handlers = [request.HTTPHandler(), request.HTTPSHandler(), request.UnknownHandler()]
    for handler in [*handlers, request.HTTPErrorProcessor(), request.HTTPDefaultErrorHandler()]:
        direct.add_handler(handler)
    try:
        with direct.open(request.Request(url, body, headers), timeout=timeout_s) as response:
            return json.load(response)
    except (OSError, http.client.HTTPException, ValueError):
        return None


def served_models(url: str, key: str | None = None) -> list[str] | None:
    """The names of the models served at ``url`` (…/v1); None if no server responds."""
    with contextlib.suppress(KeyError, TypeError):
        return [model["id"] for model in request_json(f"{url}/models", key, PROBE_S)["data"]]
    return None


def api_key(run: Run) -> str | None:
    """The API key that our servers require, from the environment; None if they require none."""
    return os.environ.get(run.model.api_key_env) if run.model.api_key_env else None
