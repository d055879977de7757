"""Serve a web page to chat with a model about images, until Ctrl-C."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING

from vd100k.config.run import LOOPBACK, Run
from vd100k.config.stages import Chat
from vd100k.console import say, waiting
from vd100k.engines import commands
from vd100k.engines.serving.fleet import fleet
from vd100k.engines.serving.http_api import api_key, served_models
from vd100k.engines.serving.ports import binding_error
from vd100k.errors import ServerError
from vd100k.runs.summary import Summary
from vd100k.runs.tracker import Tracker

if TYPE_CHECKING:
    from openai import OpenAI


def plan(run: Run, stage: Chat) -> list[str]:
    return [*commands.describe_server(run), f"serve a page at {_address(stage)}"]


def run(run: Run, stage: Chat, folder: Path, summary: Summary, tracker: Tracker) -> None:
    _check(stage)
    with fleet(run, folder, front=True) as servers, TemporaryDirectory(prefix="vd100k-page-") as uploads:
        url = servers.urls[0]
        with waiting("building the page"):
            page = _import_page(uploads)
            built = page.build(run, _client(run, stage, url), served_models(url, api_key(run)) or [])
        with page.opened(stage, built):
            say(f"\n  page   {_address(stage)}\n  model  {run.served_name} at {url}\n")
            servers.keep()


def _check(stage: Chat) -> None:
    """Raise ServerError if the page cannot be served, so that no model is loaded in vain."""
    if importlib.util.find_spec("gradio") is None:
        raise ServerError("The page needs Gradio, which is not installed: pip install -e '.[chat]'")
    if stage.password_env and not os.environ.get(stage.password_env):
        raise ServerError(f"{stage.password_env}, the password of the page, is not set: export {stage.password_env}=…")
    if error := binding_error(stage.port, stage.host, rebinds=True):
        raise ServerError(f"{_address(stage)}: {error.strerror}. Set another stage.port=PORT or stage.host=ADDRESS.")


def _import_page(uploads: str) -> ModuleType:
    """The module of the page; Gradio takes seconds to import, and reads these environment variables on import."""
    # Gradio sends usage statistics and checks for updates by default, and requests its own page through a proxy.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": uploads}
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), *LOOPBACK]))
    from vd100k.chat import page

    return page


def _client(run: Run, stage: Chat, url: str) -> OpenAI:
    from openai import OpenAI

    return OpenAI(base_url=url, api_key=api_key(run) or "none", timeout=stage.timeout_s)


def _address(stage: Chat) -> str:
    return f"http://{stage.host}:{stage.port}"
