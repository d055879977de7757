"""Start the hardware's replicas of an engine and keep them until interrupted."""

from __future__ import annotations

import json
import time
from pathlib import Path

from vd100k import commands, server
from vd100k.config import Run
from vd100k.console import say
from vd100k.stage_config import Serve
from vd100k.summary import Summary

POLL_S = 1.0


def plan(run: Run, stage: Serve) -> list[str]:
    """One command a replica, and nginx's files where it stands in front."""
    lines = [str(command) for command in commands.replicas(run)]
    if run.hardware.balanced:
        for name, text in commands.nginx_files(run.hardware, Path("RUN_FOLDER")).items():
            lines += ["", f"# {name}", *text.splitlines()]
    return lines


def run(run: Run, stage: Serve, folder: Path, summary: Summary) -> None:
    with server.start(run, folder) as replicas, server.balanced(run, replicas, folder) as fleet:
        url = fleet.urls[0]
        say(f"\n  URL    {url}\n  model  {run.served_name}\n  logs   {folder}\n\nTry it:\n{_curl(run, url)}\n")
        say("Ctrl-C stops it.")
        try:
            while True:
                fleet.check()
                time.sleep(POLL_S)
        except KeyboardInterrupt:
            say("stopping")


def _curl(run: Run, url: str) -> str:
    """A line for the shell; the body goes through a pipe, since a photo is too long for an argument."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,BASE64"}}
    content = [image, {"type": "text", "text": run.task.prompt}]
    body = {"model": run.served_name, "messages": [{"role": "user", "content": content}], **run.task.sampling}
    text = json.dumps(body, ensure_ascii=False).replace("'", r"'\''")
    text = text.replace("BASE64", r"'$(base64 < IMAGE.png | tr -d '\n')'", 1)
    return f"printf %s '{text}' | curl {url}/chat/completions -H 'Content-Type: application/json' -d @-"
