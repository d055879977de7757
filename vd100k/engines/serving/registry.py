"""Servers that were started, each known by a file, so that any later shell can look at them and end them.

``<output_dir>/servers/<port>.json`` is written by the process that serves, and removed by it. One
whose process is gone, or is another by now, is stale.
"""

from __future__ import annotations

import contextlib
import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from vd100k.config.run import Run
from vd100k.console import say
from vd100k.engines.serving.fleet import Fleet
from vd100k.errors import ServerError
from vd100k.io.atomic import write_json

GRACE_S = 20.0
CLOCK_S = 3600.0


@dataclass(frozen=True)
class Server:
    """What a file says: who serves what where, and how each of its programs did when it was last looked at."""

    port: int
    model: str
    url: str
    host: str  # the machine's name: output_dir may be on a disk that several share
    pid: int
    started: float  # seconds since the epoch
    command: list[str]  # of the process, whose number may be given to another later
    folder: str
    programs: list[dict[str, Any]]

    @property
    def here(self) -> bool:
        return self.host == platform.node()

    @property
    def alive(self) -> bool:
        return not self.here or _is(self.pid, self.started, self.command)

    @property
    def state(self) -> str:
        if not self.alive:
            return "stale"
        ready = sum(program["state"] == "ready" for program in self.programs)
        how = "ready" if ready == len(self.programs) else f"{ready} of {len(self.programs)} ready"
        return how if self.here else f"{how}, on {self.host}"


def _is(pid: int | None, started: float, command: list[str]) -> bool:
    """Whether this is still that process; its start is told less exactly after the clock was set."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < CLOCK_S and process.cmdline() == command
        return same and process.status() != psutil.STATUS_ZOMBIE
    return False


def folder(run: Run) -> Path:
    return run.output_dir / "servers"


def write(run: Run, fleet: Fleet, logs: Path) -> None:
    """Say what this process serves, and how it does."""
    programs = [
        {
            "name": service.program.name,
            "state": service.state,
            "url": service.program.url,
            **_process(service.pid),
            "restarts": service.restarts,
            "log": str(service.program.log.absolute()),
        }
        for service in fleet.services
    ]
    port, me = run.hardware.port or 0, psutil.Process()
    place = str(logs.absolute()), programs
    who = platform.node(), me.pid, me.create_time(), me.cmdline()
    server = Server(port, run.served_name, fleet.urls[0], *who, *place)
    folder(run).mkdir(parents=True, exist_ok=True)
    write_json(folder(run) / f"{port}.json", asdict(server))


def _process(pid: int | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"pid": pid, "started": 0.0, "command": []}
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid) if pid else None
        facts |= {"started": process.create_time(), "command": process.cmdline()} if process else {}
    return facts


def refuse_second(run: Run) -> None:
    """Raise ServerError if a server of ours is at the port, or is about to be: some listen only when they are ready."""
    server = _read(folder(run) / f"{run.hardware.port or 0}.json")
    if server and server.here and server.alive:
        raise ServerError(
            f"The server of process {server.pid} is at port {server.port}: {server.model}, {server.state}. "
            "End it with stage.action=stop, or choose another port (hardware.port=PORT)."
        )


def forget(run: Run, port: int, pid: int) -> None:
    """Remove the file of the server at a port, if it is that of this process."""
    path = folder(run) / f"{port}.json"
    if (server := _read(path)) and server.pid == pid:
        path.unlink(missing_ok=True)


def known(run: Run) -> list[Server]:
    """All servers that have a file, stale ones too."""
    found = (_read(path) for path in sorted(folder(run).glob("*.json")))
    return [server for server in found if server]


def _read(path: Path) -> Server | None:
    try:
        return Server(**json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        return None  # gone meanwhile
    except (ValueError, TypeError):
        say(f"{path} is no server's file, and is removed.")
        path.unlink(missing_ok=True)
        return None


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
    """Ask the process that serves to end all it has started, and wait for it.

    Raises:
        ServerError: it is on another machine.
    """
    if not server.here:
        raise ServerError(f"The server at port {server.port} is on {server.host}: stop it there.")
    family = []
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(server.pid)
        family = [process, *process.children(recursive=True)]
        process.terminate()
    _, left = psutil.wait_procs(family, timeout=GRACE_S)
    _kill(left)
    forget(run, server.port, server.pid)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=GRACE_S)


def _is_current(run: Run, server: Server) -> bool:
    """Whether it is there still; of one that is not, the file and what it left behind are removed."""
    if not server.alive:
        say(f"The server at port {server.port} ended without a word (process {server.pid}): its file is removed.")
        left = [p for p in server.programs if p["pid"] and _is(p["pid"], p["started"], p["command"])]
        _kill([psutil.Process(program["pid"]) for program in left])
        forget(run, server.port, server.pid)
    return server.alive


def age(server: Server) -> str:
    """How long it has been running."""
    minutes = int(time.time() - server.started) // 60
    return f"{minutes // 60}:{minutes % 60:02d} h"
