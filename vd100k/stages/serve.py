"""Serve a model in the foreground or the background, and show, stop or read the logs of running servers."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from vd100k.cluster import serving
from vd100k.config.run import Run
from vd100k.config.stages import Serve
from vd100k.console import say
from vd100k.engines import commands
from vd100k.engines.process import tail
from vd100k.engines.serving import adapter_check
from vd100k.engines.serving.fleet import STOP_HINT
from vd100k.engines.serving.nginx import nginx_files
from vd100k.errors import ServerError
from vd100k.registry import servers, stopping
from vd100k.runs.summary import Summary
from vd100k.runs.tracker import Tracker

POLL_S = 0.5
LOG_LINES = 40


def plan(run: Run, stage: Serve) -> list[str]:
    """The command of each replica, and the configuration files of nginx if it balances the load."""
    if stage.action != "start":
        return [f"{stage.action}: the servers registered in {servers.folder(run)}"]
    engine = run.hardware.engine
    assert engine is not None
    lines = list(map(str, commands.replicas(run))) if run.cluster.here else serving.placed(run)
    for name, text in engine.files.items():
        lines += ["", f"# {name}", *text.splitlines()]
    if run.hardware.balanced and not engine.steps:
        for name, text in nginx_files(serving.whole(run), Path("RUN_FOLDER"), serving.placeholders(run)).items():
            lines += ["", f"# {name}", *text.splitlines()]
    return lines


def run(run: Run, stage: Serve, folder: Path, summary: Summary, tracker: Tracker) -> None:
    if stage.action == "status":
        _show(servers.known(run))
    elif stage.action == "stop":
        for server in servers.chosen(run, stage.server):
            stopping.end(run, server)
            say(f"Stopped {server.model} on port {server.port}.")
    elif stage.action == "logs":
        for server in servers.chosen(run, stage.server):
            for program in server.programs:
                say(f"== {program.name} ({program.log})\n{tail(Path(program.log), LOG_LINES)}")
    elif stage.detach:
        _detach(run, folder)
    else:
        _serve(run, folder)


def _serve(run: Run, folder: Path) -> None:
    """Serve until Ctrl-C, or until every replica has failed."""
    servers.refuse_second(run)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopping.heeded(run))
        fleet = stack.enter_context(serving.start(run, folder, True, lambda fleet: servers.write(run, fleet, folder)))
        url = fleet.urls[0]
        say(f"\n  URL    {url}\n  model  {run.served_name}\n  logs   {folder}\n\nTry it:\n{_curl(run, url)}\n")
        if changed := adapter_check.describe_effect(run, url):
            say(changed)
        fleet.keep()


def _detach(run: Run, folder: Path) -> None:
    """Run the same command in the background, in a session of its own, and return when the server is ready.

    Raises:
        ServerError: the server did not start.
    """
    log = folder / "serve.log"
    command = [sys.executable, *sys.argv, "stage.detach=false"]
    with log.open("ab") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    say(f"starting in the background, log {log}")
    try:
        for line in _log_lines(child, log):
            if line == STOP_HINT:
                break
            say(line)
        else:
            raise ServerError(f"The server did not start: see {log}.")
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise
    say("The server runs in the background: use stage.action=status, logs or stop.")


def _log_lines(child: subprocess.Popen[bytes], log: Path) -> Iterator[str]:
    """The lines of the log as they arrive, until the process ends."""
    with log.open(encoding="utf-8") as lines:
        ended = False
        while not ended:
            ended = child.poll() is not None  # tested before the log is read, so that no last line is missed
            yield from (line.rstrip("\n") for line in lines)
            time.sleep(POLL_S)


def _show(found: list[servers.Server]) -> None:
    for server in found:
        say(f"{server.port}  {server.model}  {server.status}, started {servers.age(server)} ago  {server.url}")
        for program in server.programs:
            restarts = f", restarted {program.restarts} times" if program.restarts else ""
            where = f"process {program.pid}" if program.pid else program.url or "not placed yet"
            say(f"      {program.name}  {program.state}{restarts}  {where}")
        say(f"      process {server.pid} on {server.host}, logs {server.folder}")
    if not found:
        say("No server is running here.")


def _curl(run: Run, url: str) -> str:
    """A shell command that asks the model; the body is piped to curl, because a photo is too long for an argument."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,BASE64"}}
    content = [image, {"type": "text", "text": run.task.prompt}]
    body = {"model": run.served_name, "messages": [{"role": "user", "content": content}], **run.task.sampling}
    text = json.dumps(body, ensure_ascii=False).replace("'", r"'\''")
    text = text.replace("BASE64", r"'$(base64 < IMAGE.png | tr -d '\n')'", 1)
    # curl reads the header from a file, so that the key does not appear in the list of processes.
    header = f"""printf 'Authorization: Bearer %s' "${run.model.api_key_env}\""""
    key = f" -H @<({header})" if run.model.api_key_env else ""
    return f"printf %s '{text}' | curl {url}/chat/completions -H 'Content-Type: application/json'{key} -d @-"
