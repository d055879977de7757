"""Servers that were started, each known by a file, so that any later shell can look at them and end them.

``<output_dir>/servers/<port>.json`` is written by the process that serves, and removed by it. One
whose process is gone, or is another by now, is stale.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from vd100k.config import Run
from vd100k.console import say
from vd100k.errors import ServerError
from vd100k.records import write_json
from vd100k.serving.fleet import Fleet

GRACE_S = 20.0


@dataclass(frozen=True)
class Server:
    """What a file says: who serves what where, and how each of its programs did when it was last looked at."""

    port: int
    model: str
    url: str
    pid: int
    started: float  # seconds since the epoch, of the process: its number may be given to another later
    folder: str
    programs: list[dict[str, Any]]

    @property
    def alive(self) -> bool:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        return False

    @property
    def state(self) -> str:
        if not self.alive:
            return "stale"
        ready = sum(program["state"] == "ready" for program in self.programs)
        return "ready" if ready == len(self.programs) else f"{ready} of {len(self.programs)} ready"


def folder(run: Run) -> Path:
    return run.output_dir / "servers"


def write(run: Run, fleet: Fleet, logs: Path) -> None:
    """Say what this process serves, and how it does."""
    programs = [
        {
            "name": service.program.name,
            "state": service.state,
            "url": service.program.url,
            "pid": service.pid,
            "restarts": service.restarts,
            "log": str(service.program.log.absolute()),
        }
        for service in fleet.services
    ]
    port, me = run.hardware.port or 0, psutil.Process()
    server = Server(port, run.served_name, fleet.urls[0], me.pid, me.create_time(), str(logs.absolute()), programs)
    folder(run).mkdir(parents=True, exist_ok=True)
    write_json(folder(run) / f"{port}.json", asdict(server))


def forget(run: Run, port: int, pid: int) -> None:
    """Remove the file of the server at a port, if it is that of this process."""
    if any((server.port, server.pid) == (port, pid) for server in known(run)):
        (folder(run) / f"{port}.json").unlink(missing_ok=True)


def known(run: Run) -> list[Server]:
    """All servers that have a file, stale ones too."""
    found = []
    for path in sorted(folder(run).glob("*.json")):
        try:
            found.append(Server(**json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, TypeError):
            say(f"{path} is no server's file, and is removed.")
            path.unlink(missing_ok=True)
    return found


def chosen(run: Run, name: str | None) -> list[Server]:
    """The server of that port or model, all of them for ``all``, the only one for None.

    Raises:
        ServerError: there is none, or several to choose from.
    """
    servers = [server for server in known(run) if _is_current(run, server)]
    if name not in (None, "all"):
        servers = [server for server in servers if name in (str(server.port), server.model)]
    elif name is None and len(servers) > 1:
        raise ServerError(
            f"{len(servers)} servers run, at ports {', '.join(str(server.port) for server in servers)}: "
            "choose one with stage.server=PORT, or stage.server=all."
        )
    if not servers:
        raise ServerError(f"No server{'' if name in (None, 'all') else f' {name}'} is known to {folder(run)}.")
    return servers


def end(run: Run, server: Server) -> None:
    """Ask the process that serves to end all it has started, and wait for it."""
    family = [psutil.Process(server.pid)]
    with contextlib.suppress(psutil.Error):
        family += family[0].children(recursive=True)
    os.kill(server.pid, signal.SIGTERM)
    _, left = psutil.wait_procs(family, timeout=GRACE_S)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=GRACE_S)
    forget(run, server.port, server.pid)


def _is_current(run: Run, server: Server) -> bool:
    """Whether it is there still; the file of one that is not is removed."""
    if not server.alive:
        say(f"The server at port {server.port} ended without a word (process {server.pid}): its file is removed.")
        forget(run, server.port, server.pid)
    return server.alive


def age(server: Server) -> str:
    """How long it has been running."""
    minutes = int(time.time() - server.started) // 60
    return f"{minutes // 60}:{minutes % 60:02d} h"
