"""A server is stopped: by a signal on its own machine, by a request in a file on any other that shares the folder.

The file is made by the serving process and only written to by others, because NFS may remember for a minute that a
file does not exist, and never that it is empty: it asks for the content whenever a file is opened.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vd100k.config.run import Run
from vd100k.console import say
from vd100k.errors import ServerError
from vd100k.parallel.beside import repeated
from vd100k.registry import processes, servers
from vd100k.registry.servers import Server

POLL_S = 0.5
NOTICED_S = 20.0  # the serving process looks twice a second, but the folder may be on a slow disk
ENDED_S = 60.0


@contextlib.contextmanager
def heeded(run: Run) -> Iterator[None]:
    """Within the block, this process gets SIGTERM when another machine asks its server to stop.

    At the end, the files of the server are removed.
    """
    port = run.hardware.port or 0
    request = servers.request(run, port)
    request.parent.mkdir(parents=True, exist_ok=True)
    request.write_text("", encoding="utf-8")  # an earlier request was about an earlier server

    def watch() -> bool:
        request = servers.request(run, port)  # another one once a server of another machine has the usual file
        if not (machine := _content(request)):
            return False
        request.unlink(missing_ok=True)  # which tells that it was noticed
        say(f"{machine} asked this server to stop.")
        os.kill(os.getpid(), signal.SIGTERM)
        return True

    try:
        with repeated(watch, POLL_S, "stop requests"):
            yield
    finally:
        servers.forget(run, port, os.getpid())
        servers.request(run, port).unlink(missing_ok=True)


def end(run: Run, server: Server, noticed_s: float = NOTICED_S) -> None:
    """Stop a server and wait until it has ended.

    Raises:
        ServerError: it runs on another machine and does not respond.
    """
    if server.here:
        processes.end(server.pid)
        servers.forget(run, server.port, server.pid)
        return
    file = servers.file(run, server.port, server.host)
    request = file.with_suffix(".stop")
    request.write_text(platform.node(), encoding="utf-8")
    where = f"The server at port {server.port} runs on {server.host} (process {server.pid})"
    if not _within(noticed_s, lambda: _gone(run, server) or not _content(request)):
        raise ServerError(
            f"{where} and has not noticed within {noticed_s:.0f} s that it is to stop: it does not run any more, or "
            f"does not see {request.parent.absolute()}. If it does not run any more, remove {file}."
        )
    if not _within(ENDED_S, lambda: _gone(run, server)):
        raise ServerError(f"{where} and has been stopping for {ENDED_S:.0f} s: its logs are in {server.folder}.")


def _content(request: Path) -> str:
    """The name of the machine that asks; empty if none does."""
    with contextlib.suppress(OSError, ValueError):
        return request.read_text(encoding="utf-8")
    return ""


def _gone(run: Run, server: Server) -> bool:
    found = servers.read(run, server.port, server.host)
    return found is None or found.pid != server.pid


def _within(seconds: float, true: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not (done := true()) and time.monotonic() < until:
        time.sleep(POLL_S)
    return done
