"""The registry of running servers: one file per server, so that any shell and any machine can inspect and stop it.

The serving process writes ``<output_dir>/servers/<port>.json``, or ``<port>-<host>.json`` if a server of another
machine at the same port has that file, and removes it at the end. A file is stale if its process no longer exists, or
if another process has its number. In a container, which numbers its processes from 1, a server that is started again
usually gets its own earlier number.
"""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from pydantic import TypeAdapter

from vd100k.config.run import Run
from vd100k.console import say
from vd100k.engines.serving.fleet import Fleet
from vd100k.errors import ServerError
from vd100k.io.atomic import write_json
from vd100k.registry.processes import Process, identity, kill


@dataclass(frozen=True, kw_only=True)
class Program(Process):
    """A program of a server in its last known state."""

    name: str = ""
    state: str = "loading"
    url: str = ""
    restarts: int = 0
    log: str = ""


@dataclass(frozen=True, kw_only=True)
class Server(Process):
    """The content of a file: the serving process, its model and URL, and its programs."""

    port: int
    model: str
    url: str
    host: str  # name of the machine, because several machines may share output_dir
    folder: str
    programs: list[Program]

    @property
    def here(self) -> bool:
        """Whether the server runs on this machine."""
        return self.host == platform.node()

    @property
    def alive(self) -> bool:
        """Whether the process still runs; assumed for servers on other machines."""
        return not self.here or self.exists

    @property
    def status(self) -> str:
        """``ready``, ``stale``, or how many of the programs are ready; with the machine if it is another."""
        if not self.alive:
            return "stale"
        ready = sum(program.state == "ready" for program in self.programs)
        how = "ready" if ready == len(self.programs) else f"{ready} of {len(self.programs)} ready"
        return how if self.here else f"{how}, on {self.host}"


def folder(run: Run) -> Path:
    return run.output_dir / "servers"


def file(run: Run, port: int, host: str | None = None) -> Path:
    """The file of the server at a port of this machine, or of another ``host``."""
    host = host or platform.node()
    usual, own = folder(run) / f"{port}.json", folder(run) / f"{port}-{host}.json"
    other = None if own.exists() else _read(usual)
    return own if own.exists() or (other and other.host != host) else usual


def request(run: Run, port: int, host: str | None = None) -> Path:
    """The file in which another machine asks this server to stop; empty as long as none does."""
    return file(run, port, host).with_suffix(".stop")


def write(run: Run, fleet: Fleet, logs: Path) -> None:
    """Write the file of the server that this process runs, with the current states."""
    programs = [
        Program(
            name=service.program.name,
            state=service.state,
            url=service.program.url,
            restarts=service.restarts,
            log=str(service.program.log.absolute()),
            **(identity(service.pid) if service.pid else {}),  # unknown on another machine
        )
        for service in fleet.services
    ]
    server = Server(
        port=run.hardware.port or 0,
        model=run.served_name,
        url=next(iter(fleet.urls), ""),
        host=platform.node(),
        folder=str(logs.absolute()),
        programs=programs,
        **identity(os.getpid()),
    )
    folder(run).mkdir(parents=True, exist_ok=True)
    write_json(file(run, server.port), asdict(server))


def refuse_second(run: Run) -> None:
    """Raise ServerError if one of our servers uses the port; while it loads, it may not listen there yet."""
    server = read(run, run.hardware.port or 0)
    if server and server.alive:
        raise ServerError(
            f"A server is already running at port {server.port}: {server.model}, {server.status}, "
            f"process {server.pid}. Stop it with stage.action=stop, or choose another port (hardware.port=PORT)."
        )


def forget(run: Run, port: int, pid: int | None) -> None:
    """Remove the files of the server at a port of this machine if they belong to the process ``pid``."""
    path = file(run, port)
    if (server := _read(path)) and server.here and server.pid == pid:
        path.unlink(missing_ok=True)
        path.with_suffix(".stop").unlink(missing_ok=True)


def read(run: Run, port: int, host: str | None = None) -> Server | None:
    """The server at a port of this machine, or of another ``host``; None if there is none."""
    server = _read(file(run, port, host))
    return server if server and server.host == (host or platform.node()) else None


def known(run: Run) -> list[Server]:
    """All servers that have a file, including stale ones."""
    found = (_read(path) for path in sorted(folder(run).glob("*.json")))
    return [server for server in found if server]


def _read(path: Path) -> Server | None:
    try:
        return TypeAdapter(Server).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        return None  # removed in the meantime
    except (ValueError, RecursionError):
        say(f"{path} is not a valid server file and was removed.")
        path.unlink(missing_ok=True)
        return None


def chosen(run: Run, name: str | None) -> list[Server]:
    """The servers with that port (of this machine, if it has one there) or model; all for ``all``; the only for None.

    Raises:
        ServerError: no server matches, or several do of which one must be chosen.
    """
    servers = [server for server in known(run) if _is_current(run, server)]
    if name not in (None, "all"):
        servers = [one for one in servers if name in (str(one.port), one.model, f"{one.host}:{one.port}")]
        at_port = [one for one in servers if name == str(one.port)]
        servers = [one for one in at_port if one.here] or servers
    if len(servers) > 1 and (name is None or name.isdigit()):
        every = ", ".join(str(one.port) if one.here else f"{one.host}:{one.port}" for one in servers)
        raise ServerError(
            f"{len(servers)} servers are running, at {every}: choose one with stage.server=PORT or "
            "stage.server=MACHINE:PORT, or stage.server=all."
        )
    if not servers:
        raise ServerError(
            f"No server{'' if name in (None, 'all') else f' {name}'} is running here (no file in {folder(run)}): "
            "stage.action=status lists the servers."
        )
    return servers


def _is_current(run: Run, server: Server) -> bool:
    """Whether the server still runs; otherwise its file is removed and its remaining programs are killed."""
    if not server.alive:
        say(f"The server at port {server.port} ended unexpectedly (process {server.pid}): its file is removed.")
        kill([psutil.Process(program.pid) for program in server.programs if program.exists])
        forget(run, server.port, server.pid)
    return server.alive


def age(server: Server) -> str:
    """The time since the server was started, as hours:minutes."""
    minutes = int(time.time() - server.started) // 60
    return f"{minutes // 60}:{minutes % 60:02d} h"
