"""The servers of a run's model: attached to, or started as replicas, with nginx before them, and watched."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vd100k.config.run import Run
from vd100k.console import say, waiting
from vd100k.engines import commands
from vd100k.engines import model_folder as weights
from vd100k.engines.commands import Command
from vd100k.engines.serving.nginx import nginx_files
from vd100k.errors import ServerError

if TYPE_CHECKING:
    from vd100k.engines.serving.supervisor import Program, Service

POLL_S = 0.2
PROBE_S = 2.0
KEPT_POLL_S = 0.5
ENDS = "Ctrl-C stops it."


@dataclass
class Fleet:
    """Addresses that answer for a model, and our programs behind them (none when attached).

    ``urls`` are whom to ask: nginx where it stands in front, else each replica.
    """

    urls: list[str]
    replicas: list[Service] = field(default_factory=list)
    balancer: Service | None = None
    error: BaseException | None = None  # that ended the watch over them

    @property
    def services(self) -> list[Service]:
        return [*self.replicas, *([self.balancer] if self.balancer else [])]

    def check(self) -> None:
        """Raise ServerError, with the last words of one of ours, when nobody is left who could answer."""
        if self.error:
            raise self.error
        vital = [self.balancer] if self.balancer and self.balancer.state == "given up" else self.replicas
        if vital and all(service.state == "given up" for service in vital):
            raise ServerError(vital[-1].last_words)

    def keep(self) -> None:
        """Until it is interrupted; raises what ``check`` does."""
        try:
            say(ENDS)
            while True:
                self.check()
                time.sleep(KEPT_POLL_S)
        except KeyboardInterrupt:
            say("stopping")


@contextlib.contextmanager
def fleet(run: Run, logs: Path, front: bool = False) -> Iterator[Fleet]:
    """Servers of the run's model: elsewhere, already running here, or started for the duration.

    For ``front``, the one address that a person uses, nginx if it stands there, is enough. Otherwise
    a merged model is always started: a running one of that name may be of an older export.

    Raises:
        ServerError: what ``start`` raises.
    """
    if run.hardware.urls is not None:
        yield Fleet([url for url in run.hardware.urls if url])
        return
    if (front or run.weights == "base") and (running := _running(run, front)):
        say(f"using the server already at {', '.join(running)}")
        yield Fleet(running)
        return
    with start(run, logs, balanced=front) as started:
        yield started


@contextlib.contextmanager
def start(
    run: Run, logs: Path, balanced: bool = False, changed: Callable[[Fleet], None] = lambda fleet: None
) -> Iterator[Fleet]:
    """Start every replica, all at once, and await them; then nginx if they are to be ``balanced``.

    While the block lasts, one that dies is started again, and ``changed`` hears of it, from another
    thread. All end with the block.

    Raises:
        ServerError: an engine that is not installed or cannot run here, one that died or did not
            answer within ``hardware.start_timeout_s`` while none was ready yet.
        DataError: a model folder with something missing or broken.
    """
    from vd100k.engines.serving import preflight

    weights.ensure(run)
    preflight.check(run, balanced)
    with contextlib.ExitStack() as stack:
        started = Fleet(_replica_urls(run))
        for program in _replicas(run, logs):
            started.replicas.append(_kept(run, program, stack))
        # Left first: all are asked to end before any is waited for.
        stack.callback(_terminate, started)
        with waiting(f"starting {len(started.replicas)} x {run.served_name}"):
            _await(started.replicas, started, changed)
        if balanced and run.hardware.balanced:
            started.balancer = _kept(run, _nginx(run, logs), stack)
            started.urls = [started.balancer.program.url]
            _await([started.balancer], started, changed)
        stack.enter_context(_watched(started, changed))
        yield started


def _terminate(fleet: Fleet) -> None:
    for service in fleet.services:
        service.terminate()


def _kept(run: Run, program: Program, stack: contextlib.ExitStack) -> Service:
    from vd100k.engines.serving.supervisor import Service

    service = Service(program, run.hardware.start_timeout_s, run.hardware.max_restarts)
    stack.callback(service.stop)
    return service


def _replicas(run: Run, logs: Path) -> Iterator[Program]:
    from vd100k.engines.serving.supervisor import Program

    engine, key = run.hardware.engine, key_of(run)
    assert engine is not None
    for name, text in engine.files.items():
        (logs / name).write_text(text, encoding="utf-8")
    started = zip(commands.replicas(run, logs), run.hardware.ports, _replica_urls(run), strict=True)
    # Empty where there is none: one that lies in our own environment is for something else.
    secret = {engine.key_env: key or ""} if engine.key_env else {}
    for k, (command, port, url) in enumerate(started):
        yield Program(
            name=f"replica {k} (port {port})",
            command=Command(command.argv, command.env | secret),
            port=port,
            url=url,
            log=logs / f"replica-{k}.log",
            answers=lambda url=url: run.served_name in (served(url, key) or []),  # type: ignore[misc]
            rebinds_port=engine.rebinds_port,
        )


def _nginx(run: Run, logs: Path) -> Program:
    """nginx as an ordinary user, from files in the run's folder."""
    from vd100k.engines.serving.supervisor import Program

    folder, port = logs.absolute(), run.hardware.port or 0
    for name, text in nginx_files(run.hardware, folder).items():
        (folder / name).write_text(text, encoding="utf-8")
    url = _url(run.hardware.host, port)
    command = Command(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")])
    key = key_of(run)
    return Program("nginx", command, port, url, logs / "nginx.log", lambda: served(url, key) is not None)


def _await(services: list[Service], fleet: Fleet, changed: Callable[[Fleet], None]) -> None:
    """Until each is ready or, while others are, given up; a line for each change."""
    while not all(service.was_ready or service.state == "given up" for service in services):
        for service in services:
            line = service.look()
            failed = service.restarts or service.state == "given up"
            if failed and not any(other.was_ready for other in services):
                # They are all alike: what ended one would end the others.
                raise ServerError(service.last_words)
            if line:
                say(line)
                changed(fleet)
        time.sleep(POLL_S)


@contextlib.contextmanager
def _watched(fleet: Fleet, changed: Callable[[Fleet], None]) -> Iterator[None]:
    """Another thread looks after the services for as long as the block lasts."""
    ended = threading.Event()

    def watch() -> None:
        try:
            while not ended.wait(POLL_S):
                for service in fleet.services:
                    if line := service.look():
                        say(line)
                        changed(fleet)
        except BaseException as error:
            fleet.error = error

    watcher = threading.Thread(target=watch, name="watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def served(url: str, key: str | None = None) -> list[str] | None:
    """The names of the models served at ``url`` (…/v1), None when nothing answers."""
    with contextlib.suppress(KeyError, TypeError):
        return [model["id"] for model in said_at(f"{url}/models", key, PROBE_S)["data"]]
    return None


def said_at(url: str, key: str | None, timeout_s: float, body: bytes | None = None) -> Any:
    """What a server of ours says in JSON, asked without a proxy; None if it says nothing of the kind."""
    import http.client  # only now: they take a while, and who asks elsewhere does without
    import json
    import urllib.request

    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(urllib.request.Request(url, body, headers), timeout=timeout_s) as answer:
            return json.load(answer)
    except (OSError, http.client.HTTPException, ValueError):
        return None


def key_of(run: Run) -> str | None:
    """The API key that servers of ours are to want, from the environment; None if anyone may ask."""
    return os.environ.get(run.model.api_key_env) if run.model.api_key_env else None


def _running(run: Run, front: bool) -> list[str]:
    """The addresses that already serve this model, the replicas' or the one before them."""
    urls, key = [_url(run.hardware.host, run.hardware.port or 0)] if front else _replica_urls(run), key_of(run)
    return [url for url in urls if run.served_name in (served(url, key) or [])]


def _replica_urls(run: Run) -> list[str]:
    return [_url(commands.backend(run.hardware), port) for port in run.hardware.ports]


def _url(host: str | None, port: int) -> str:
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}/v1"
