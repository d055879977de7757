"""Model servers: attach to those that run, or start replicas, await them, watch them, stop them."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from vd100k import commands, models
from vd100k.commands import Command
from vd100k.config import Engine, Run
from vd100k.console import say, waiting
from vd100k.errors import ServerError
from vd100k.processes import Child

POLL_S = 0.5


@dataclass
class Fleet:
    """Addresses that answer for a model, and our processes behind them (none when attached)."""

    urls: list[str]
    children: dict[str, Child] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ServerError with a replica's last words if one of ours has ended."""
        for name, child in self.children.items():
            if (code := child.exit_code()) is not None:
                raise ServerError(_died(name, code, child))


@contextlib.contextmanager
def fleet(run: Run, logs: Path) -> Iterator[Fleet]:
    """Servers of the run's model: elsewhere, already running here, or started for the duration.

    Raises:
        ServerError: a port taken by something else, an engine not installed, one that died or
            did not answer within ``hardware.start_timeout_s``.
    """
    if run.hardware.urls is not None:
        yield Fleet([url for url in run.hardware.urls if url])
        return
    if running := _running(run):
        say(f"using the server already at {', '.join(running)}")
        yield Fleet(running)
        return
    with start(run, logs) as started:
        yield started


@contextlib.contextmanager
def start(run: Run, logs: Path) -> Iterator[Fleet]:
    """Start every replica (and nginx, where the hardware has it); all end with the block."""
    hardware, engine = run.hardware, run.hardware.engine
    assert engine is not None
    _installed(engine)
    models.ensure(run)
    if hardware.balanced and not shutil.which("nginx"):
        raise ServerError("nginx is not installed: install it, or set hardware.balancer=none.")
    for port in [*hardware.ports, *([hardware.port] if hardware.balanced and hardware.port else [])]:
        _free(port)
    urls = [_url(run, port) for port in hardware.ports]
    with contextlib.ExitStack() as stack:
        children = {}
        for k, (command, port) in enumerate(zip(commands.replicas(run), hardware.ports, strict=True)):
            children[f"replica {k} (port {port})"] = stack.enter_context(Child(command, logs / f"replica-{k}.log"))
        started = Fleet(urls, children)
        _await(run, started)
        if hardware.balanced:
            children["nginx"] = stack.enter_context(_balance(run, logs))
        yield started


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


def _balance(run: Run, logs: Path) -> Child:
    """nginx from a file of the run folder, as whoever we are."""
    folder = logs.absolute()
    for name, text in commands.nginx_files(run.hardware, folder).items():
        (folder / name).write_text(text, encoding="utf-8")
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    child = Child(Command(command), logs / "nginx.log")
    url = f"http://{run.hardware.host}:{run.hardware.port}/v1"
    try:
        for _ in range(40):
            if served(url):
                say(f"nginx answers for all of them: {url}")
                return child
            if (code := child.exit_code()) is not None:
                raise ServerError(_died("nginx", code, child))
            time.sleep(0.25)
        raise ServerError(f"nginx did not answer at {url}. Its last lines:\n{child.tail()}")
    except BaseException:
        child.stop()
        raise


def served(url: str) -> list[str] | None:
    """The names of the models served at ``url`` (…/v1), None when nothing answers."""
    try:
        answer = httpx.get(f"{url}/models", timeout=5)
        return [model["id"] for model in answer.json()["data"]] if answer.is_success else None
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
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
            raise ServerError(
                f"Port {port} is in use, and not by this model. End what listens there, "
                "or choose another: hardware.port=PORT."
            )


def _died(name: str, code: int, child: Child) -> str:
    return f"{name} ended with exit code {code}. Its last lines ({child.log}):\n{child.tail()}"
