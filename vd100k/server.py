"""Model servers: attach to those that run, or start replicas, await them, watch them, stop them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vd100k import commands, models
from vd100k.commands import Command
from vd100k.config import Engine, Run
from vd100k.console import say, waiting
from vd100k.errors import ServerError

if TYPE_CHECKING:
    from vd100k.processes import Child

POLL_S = 0.5
PROBE_S = 5.0
NGINX_POLLS = 20
IDLE_S = 75.0


@dataclass
class Fleet:
    """Addresses that answer for a model, and our processes behind them (none when attached)."""

    urls: list[str]
    children: dict[str, Child] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ServerError with a replica's last words if one of ours has ended."""
        for name, child in self.children.items():
            if child.exit_code() is not None:
                raise ServerError(child.last_words(name))


@contextlib.contextmanager
def fleet(run: Run, logs: Path) -> Iterator[Fleet]:
    """Servers of the run's model: elsewhere, already running here, or started for the duration.

    A merged model is always started: a running one of that name may be of an older export.

    Raises:
        ServerError: a port taken by something else, an engine not installed, one that died or
            did not answer within ``hardware.start_timeout_s``.
    """
    if run.hardware.urls is not None:
        yield Fleet([url for url in run.hardware.urls if url])
        return
    if run.weights == "base" and (running := _running(run)):
        say(f"using the server already at {', '.join(running)}")
        yield Fleet(running)
        return
    with start(run, logs) as started:
        yield started


@contextlib.contextmanager
def start(run: Run, logs: Path) -> Iterator[Fleet]:
    """Start every replica and await it; all end with the block."""
    from vd100k.processes import Child

    hardware, engine = run.hardware, run.hardware.engine
    assert engine is not None
    _installed(engine)
    models.ensure(run)
    for port in hardware.ports:
        _free(port)
        if not engine.rebinds_port:
            _idle(port)
    urls = [_url(run, port) for port in hardware.ports]
    children: dict[str, Child] = {}
    with contextlib.ExitStack() as stack:
        for k, (command, port) in enumerate(zip(commands.replicas(run), hardware.ports, strict=True)):
            children[f"replica {k} (port {port})"] = stack.enter_context(Child(command, logs / f"replica-{k}.log"))
        # Left first: all are asked to end before any is waited for.
        stack.callback(_terminate, children.values())
        started = Fleet(urls, children)
        _await(run, started)
        yield started


@contextlib.contextmanager
def balanced(run: Run, replicas: Fleet, logs: Path) -> Iterator[Fleet]:
    """The replicas with nginx before them, where the hardware has it."""
    from vd100k.processes import Child

    if not run.hardware.balanced:
        yield replicas
        return
    if not shutil.which("nginx"):
        raise ServerError("nginx is not installed: install it, or set hardware.balancer=none.")
    port = run.hardware.port or 0
    url = _url(run, port)
    _free(port)
    folder = logs.absolute()
    for name, text in commands.nginx_files(run.hardware, folder).items():
        (folder / name).write_text(text, encoding="utf-8")
    command = Command(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")])
    with Child(command, logs / "nginx.log") as child:
        for _ in range(NGINX_POLLS):
            if served(url):
                break
            if child.exit_code() is not None:
                raise ServerError(child.last_words("nginx"))
            time.sleep(POLL_S)
        else:
            raise ServerError(f"nginx does not answer at {url}. Its last lines ({child.log}):\n{child.tail()}")
        say(f"nginx answers for all of them: {url}")
        yield Fleet([url], {**replicas.children, "nginx": child})


def _terminate(children: Iterable[Child]) -> None:
    for child in children:
        child.terminate()


def _await(run: Run, started: Fleet) -> None:
    """Until each replica names the model; a line for each that does."""
    began = time.monotonic()
    missing = dict(zip(started.urls, started.children, strict=True))
    with waiting(f"starting {len(missing)} x {run.served_name}"):
        while missing:
            started.check()
            for url in [url for url in missing if run.served_name in (served(url) or [])]:
                say(f"{missing.pop(url)} answers after {time.monotonic() - began:.0f} s: {url}")
            if missing and time.monotonic() - began > run.hardware.start_timeout_s:
                name = next(iter(missing.values()))
                raise ServerError(
                    f"{name} did not answer within {run.hardware.start_timeout_s:.0f} s "
                    "(hardware.start_timeout_s). Its last lines:\n" + started.children[name].tail()
                )
            time.sleep(POLL_S)


def served(url: str) -> list[str] | None:
    """The names of the models served at ``url`` (…/v1), None when nothing answers."""
    import http.client  # only now: they take a while, and who asks elsewhere does without
    import urllib.request

    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url}/models", timeout=PROBE_S) as answer:
            return [model["id"] for model in json.load(answer)["data"]]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None


def _running(run: Run) -> list[str]:
    """The replicas' addresses that already serve this model."""
    urls = [_url(run, port) for port in run.hardware.ports]
    return [url for url in urls if run.served_name in (served(url) or [])]


def _url(run: Run, port: int) -> str:
    return f"http://{run.hardware.host}:{port}/v1"


def _installed(engine: Engine) -> None:
    if engine.python is None and importlib.util.find_spec(engine.package) is None:
        raise ServerError(
            f"The engine {engine.name} is not installed here. Install it: {engine.install}\n"
            "Or choose another (engine@hardware.engine=swift), or name the interpreter that has it "
            "(hardware.engine.python=PATH)."
        )


def _free(port: int) -> None:
    """Raise ServerError if something listens on the port already."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise ServerError(f"Port {port} is in use. End what listens there, or choose another: hardware.port=PORT.")


def _idle(port: int) -> None:
    """Wait until the port can be bound as if never used: after a server it stays taken for a minute (TIME_WAIT)."""
    end = time.monotonic() + IDLE_S
    while True:
        try:
            with socket.socket() as probe:
                probe.bind(("", port))
                return
        except OSError as error:
            if time.monotonic() > end:
                raise ServerError(
                    f"Port {port} does not become free: {error}. Choose another: hardware.port=PORT."
                ) from error
        time.sleep(POLL_S)
