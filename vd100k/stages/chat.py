"""Serve a web page to chat with a model about images, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from vd100k.cluster import serving
from vd100k.config.run import Run
from vd100k.config.stages import Chat
from vd100k.console import say, waiting
from vd100k.engines.serving.http_api import api_key, served_models
from vd100k.runs.summary import Summary
from vd100k.runs.tracker import Tracker
from vd100k.web import address

if TYPE_CHECKING:
    from openai import OpenAI


def plan(run: Run, stage: Chat) -> list[str]:
    return [*serving.describe(run), f"serve a page at {address.address(stage)}"]


def run(run: Run, stage: Chat, folder: Path, summary: Summary, tracker: Tracker) -> None:
    address.check(stage)
    with serving.fleet(run, folder, front=True) as servers, TemporaryDirectory(prefix="vd100k-page-") as uploads:
        url = servers.urls[0]
        with waiting("building the page"):
            address.prepare_gradio(uploads)
            from vd100k.chat import page  # takes seconds
            from vd100k.web import server

            built = page.build(run, _client(run, stage, url), served_models(url, api_key(run)) or [])
        with server.opened(stage, built):
            say(f"\n  page   {address.address(stage)}\n  model  {run.served_name} at {url}\n")
            servers.keep()


def _client(run: Run, stage: Chat, url: str) -> OpenAI:
    from openai import OpenAI

    return OpenAI(base_url=url, api_key=api_key(run) or "none", timeout=stage.timeout_s)
