"""The servers of a run's model: existing ones that are used, or replicas that are started and supervised.

Replicas run on this machine; ``vd100k.cluster`` passes a ``starter`` that places them on others.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vd100k.config.run import Run
from vd100k.console import say, waiting
from vd100k.engines import commands
from vd100k.engines.commands import Command
from vd100k.engines.serving.http_api import api_key, served_models
from vd100k.engines.serving.nginx import Backend, configured
from vd100k.errors import ServerError
from vd100k.models import model_folder as weights
from vd100k.parallel.beside import repeated

if TYPE_CHECKING:
    from vd100k.engines.serving.supervisor import Program, Service, Supervised

POLL_S = 0.2
CHECK_S = 0.5
STOP_HINT = "Ctrl-C stops it."
NOWHERE = "127.0.0.1:9"  # the address of a replica that has not been placed yet


@dataclass
class Fleet:
    """The URLs that serve a model (``given`` ones of existing servers), and our programs behind them, if any."""

    given: list[str] = field(default_factory=list)
    replicas: list[Supervised] = field(default_factory=list)
    balancer: Service | None = None
    error: ServerError | None = None  # the error that stopped the supervision
    relist: Callable[[list[Backend]], None] = lambda backends: None  # writes nginx's files again

    @property
    def services(self) -> list[Supervised]:
        return [*self.replicas, *([self.balancer] if self.balancer else [])]

    @property
    def urls(self) -> list[str]:
        """The URL of nginx if there is one, otherwise the URL of each replica; they change if replicas move."""
        if self.balancer:
            return [self.balancer.program.url]
        return [url for replica in self.replicas if (url := replica.program.url)] or self.given

    def check(self) -> None:
        """Raise ServerError if no server is left that could respond (with the end of a log), or none is supervised."""
        if self.error:
            raise self.error
        vital = [self.balancer] if self.balancer and self.balancer.state == "failed" else self.replicas
        if vital and all(service.state == "failed" for service in vital):
            raise ServerError(vital[-1].last_words)

    def keep(self) -> None:
        """Wait until Ctrl-C; raises the errors of ``check``."""
        try:
            say(STOP_HINT)
            while True:
                self.check()
                time.sleep(CHECK_S)
        except KeyboardInterrupt:
            say("stopping")


class Starter(Protocol):
    """Makes the services of all replicas, none of them ready yet; ``stack`` closes what they need."""

    def __call__(self, run: Run, logs: Path, stack: contextlib.ExitStack) -> list[Supervised]: ...


@contextlib.contextmanager
def fleet(run: Run, logs: Path, front: bool = False, starter: Starter | None = None) -> Iterator[Fleet]:
    """The servers of the run's model: the given URLs, servers that already run here, or replicas for the duration.

    With ``front``, one URL for people is enough: that of nginx if there is one. Without it, a merged
    model is always started, because a running server of that name may serve an older export.

    Raises:
        ServerError: see ``start``.
        DataError: see ``start``.
    """
    if run.hardware.urls is not None:
        yield Fleet([url for url in run.hardware.urls if url])
        return
    if (front or run.weights == "base") and (found := running(run, front)):
        say(f"using the server that is already running at {', '.join(found)}")
        yield Fleet(found)
        return
    with start(run, logs, balanced=front, starter=starter) as started:
        yield started


@contextlib.contextmanager
def start(
    run: Run,
    logs: Path,
    balanced: bool = False,
    changed: Callable[[Fleet], None] = lambda fleet: None,
    starter: Starter | None = None,
) -> Iterator[Fleet]:
    """Start all replicas in parallel and wait for them, then start nginx if ``balanced``.

    Within the block, a replica that exits is restarted. ``changed`` is called after each change of
    state, within the block from another thread. Leaving the block stops all programs. ``starter`` makes
    the services of the replicas; without one, they run on this machine.

    Raises:
        ServerError: the engine is not installed or cannot run here, or a replica exited or did not
            respond within ``hardware.start_timeout_s`` before any replica was ready.
        DataError: something in the model folder is missing or broken.
    """
    from vd100k.engines.serving import preflight

    balanced = balanced and run.hardware.balanced
    weights.ensure(run)
    if starter is None:
        preflight.check(run, balanced)
    elif balanced:
        preflight.check_front(run)
    with contextlib.ExitStack() as stack:
        started = Fleet(replicas=(starter or _local_replicas)(run, logs, stack))
        # Called before the other callbacks: all programs get SIGTERM before we wait for any of them.
        stack.callback(_terminate, started)
        with waiting(f"starting {len(started.replicas)} x {run.served_name}"):
            _await(started.replicas, started, changed)
        if balanced:
            started.relist = stack.enter_context(
                configured(run, logs.absolute(), backends(started) if starter else None)
            )
            started.balancer = _service(run, _nginx(run, logs), stack)
            _await([started.balancer], started, changed)
        stack.enter_context(_supervised(started, changed))
        yield started


def _terminate(fleet: Fleet) -> None:
    for service in fleet.services:
        service.terminate()


def _service(run: Run, program: Program, stack: contextlib.ExitStack) -> Service:
    from vd100k.engines.serving.supervisor import Service

    service = Service(program, run.hardware.start_timeout_s, run.hardware.max_restarts)
    stack.callback(service.stop)
    return service


def _local_replicas(run: Run, logs: Path, stack: contextlib.ExitStack) -> list[Supervised]:
    return [_service(run, program, stack) for program in _programs(run, logs)]


def backends(fleet: Fleet) -> list[Backend]:
    """All replicas as nginx sees them; if none is ready, requests are sent to each of them."""
    none_ready = all(replica.state != "ready" for replica in fleet.replicas)
    return [Backend(_address(one.program.url), none_ready or one.state == "ready") for one in fleet.replicas]


def _address(url: str) -> str:
    return url.removeprefix("http://").removesuffix("/v1") or NOWHERE


def _programs(run: Run, logs: Path) -> Iterator[Program]:
    from vd100k.engines.serving.supervisor import Program

    engine, key = run.hardware.engine, api_key(run)
    assert engine is not None
    for name, text in engine.files.items():
        (logs / name).write_text(text, encoding="utf-8")
    started = zip(commands.replicas(run, logs), run.hardware.ports, _replica_urls(run), strict=True)
    # Empty without a key: a variable of that name in our own environment would have another purpose.
    secret = {engine.key_env: key or ""} if engine.key_env else {}
    for k, (command, port, url) in enumerate(started):
        yield Program(
            name=f"replica {k} (port {port})",
            command=replace(command, env=command.env | secret),
            port=port,
            url=url,
            log=logs / f"replica-{k}.log",
            answers=lambda url=url: run.served_name in (served_models(url, key) or []),  # type: ignore[misc]
            rebinds_port=engine.rebinds_port,
        )


def _nginx(run: Run, logs: Path) -> Program:
    """nginx, run with the configuration files in the run's folder."""
    from vd100k.engines.serving.supervisor import Program

    folder, port = logs.absolute(), run.hardware.port or 0
    url = _url(run.hardware.host, port)
    command = Command(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")])
    key = api_key(run)
    return Program("nginx", command, port, url, logs / "nginx.log", lambda: served_models(url, key) is not None)


def _await(services: Sequence[Supervised], fleet: Fleet, changed: Callable[[Fleet], None]) -> None:
    """Poll until each service is ready or has failed; a failure before any is ready is raised as ServerError."""
    while not all(service.was_ready or service.state == "failed" for service in services):
        for service in services:
            line = service.poll()
            failed = service.restarts or service.state == "failed"
            if failed and not any(other.was_ready for other in services):
                # All replicas are alike, so the others would fail for the same reason.
                raise ServerError(service.last_words)
            if line:
                say(line)
                changed(fleet)
        time.sleep(POLL_S)


@contextlib.contextmanager
def _supervised(fleet: Fleet, changed: Callable[[Fleet], None]) -> Iterator[None]:
    """Poll the services in another thread until the block ends."""

    def supervise() -> bool:
        try:
            for service in fleet.services:
                if line := service.poll():
                    say(line)
                    changed(fleet)
        except BaseException as error:  # the run must not go on without supervision, and nobody else sees it
            told = f"The supervision of the servers failed: {type(error).__name__}: {error}"
            fleet.error = error if isinstance(error, ServerError) else ServerError(told)
            return True
        return False

    with repeated(supervise, POLL_S, "supervise"):
        yield


def running(run: Run, front: bool) -> list[str]:
    """The URLs that already serve this model: that of nginx if ``front``, otherwise those of the replicas."""
    urls, key = [_url(run.hardware.host, run.hardware.port or 0)] if front else _replica_urls(run), api_key(run)
    return [url for url in urls if run.served_name in (served_models(url, key) or [])]


def _replica_urls(run: Run) -> list[str]:
    return [_url(commands.backend(run.hardware), port) for port in run.hardware.ports]


def _url(host: str | None, port: int) -> str:
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}/v1"
