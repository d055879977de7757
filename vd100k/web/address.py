"""Whether a page can be served, and where, before Gradio is imported, which takes seconds."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from vd100k.config.run import LOOPBACK
from vd100k.config.stages import WebPage
from vd100k.engines.serving.ports import binding_error
from vd100k.errors import ServerError


def address(stage: WebPage) -> str:
    """The URL of the page."""
    return f"http://{stage.host}:{stage.port}"


def check(stage: WebPage) -> None:
    """Raise ServerError if the page cannot be served."""
    if importlib.util.find_spec("gradio") is None:
        raise ServerError("The page needs Gradio, which is not installed: pip install -e '.[chat]'")
    if stage.password_env and not os.environ.get(stage.password_env):
        raise ServerError(f"{stage.password_env}, the password of the page, is not set: export {stage.password_env}=…")
    if error := binding_error(stage.port, stage.host, rebinds=True):
        raise ServerError(f"{address(stage)}: {error.strerror}. Set another stage.port=PORT or stage.host=ADDRESS.")


def prepare_gradio(uploads: Path | str) -> None:
    """Set the environment variables that Gradio reads when it is imported; ``uploads`` is its folder for files."""
    # Gradio sends usage statistics and checks for updates by default, and requests its own page through a proxy.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(uploads)}
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), *LOOPBACK]))
