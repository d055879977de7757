"""The configuration files of nginx, which balances requests across several replicas."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from vd100k.config.run import Run
from vd100k.engines.serving.http_api import api_key
from vd100k.errors import ServerError
from vd100k.io import atomic

KEY_FILE = "nginx-key.conf"


class Backend(NamedTuple):
    """A replica as nginx sees it: HOST:PORT, and whether it gets requests."""

    address: str
    up: bool = True


def nginx_files(
    run: Run, folder: Path, backends: list[Backend] | None = None, scratch: Path | None = None
) -> dict[str, str]:
    """The content of the two files by name; neither has the API key.

    ``backends`` are all replicas in their order; by default, those on the ports of this machine.

    ``vllm.conf`` has an upstream and a server for the ``http`` block of any nginx. ``nginx.conf``
    includes it, so that an ordinary user can run nginx from ``folder``. Large request bodies are
    kept in ``scratch`` (default: ``folder``) until they are sent on.
    """
    from jinja2 import Environment, StrictUndefined  # slow to import, and few runs need nginx

    hardware = run.hardware
    templates = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    backends = backends or [Backend(f"127.0.0.1:{port}") for port in hardware.ports]
    shares = hardware.replica_weights or [1] * len(backends)
    header = hardware.affinity_header
    facts = {
        "host": hardware.host,
        "port": hardware.port,
        "replicas": list(zip(backends, shares, strict=True)),
        "affinity": header and f"$http_{header.lower().replace('-', '_')}",
        "folder": folder,
        "scratch": scratch or folder,
        "key_file": run.model.api_key_env and folder / KEY_FILE,
    }
    return {
        name: templates.from_string(
            (files("vd100k.engines.serving") / f"{name}.j2").read_text(encoding="utf-8")
        ).render(facts)
        for name in ("vllm.conf", "nginx.conf")
    }


@contextlib.contextmanager
def configured(
    run: Run, folder: Path, backends: list[Backend] | None = None
) -> Iterator[Callable[[list[Backend]], None]]:
    """The files in ``folder``, an absolute path; the one with the API key is removed when the block ends.

    The value of the block writes them again for other states of the replicas; nginx reads them on SIGHUP.

    Raises:
        ServerError: they cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            scratch = stack.enter_context(_scratch(folder))
            write = functools.partial(_write_files, run, folder, scratch)
            write(backends)
            stack.callback((folder / KEY_FILE).unlink, missing_ok=True)
            _write_key(api_key(run), folder / KEY_FILE)
        except OSError as error:
            remedy = "choose another folder (output_dir=FOLDER)"
            raise ServerError(f"{folder}: nginx's files cannot be written ({error.strerror}): {remedy}") from error
        yield write


def _write_files(run: Run, folder: Path, scratch: Path, backends: list[Backend] | None) -> None:
    for name, text in nginx_files(run, folder, backends, scratch).items():
        atomic.replace(folder / name, [text.encode()])


def _write_key(key: str | None, file: Path) -> None:
    file.unlink(missing_ok=True)
    if key:
        file.touch(0o600, exist_ok=False)
        file.write_text(_key_line(key), encoding="ascii")


def _key_line(key: str) -> str:
    """The line of nginx's map that matches a header with this key: a regular expression, to respect the case."""
    escaped = "".join(char if char.isascii() and char.isalnum() else _hex(char) for char in key)
    return f'"~^(?i:Bearer) {escaped}$" 1;\n'


def _hex(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """``folder``, or a temporary folder if nginx is run by root, whose workers (as nobody) cannot enter ``folder``."""
    if os.geteuid() or all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents)):
        yield folder
        return
    from tempfile import TemporaryDirectory  # slow to import

    with TemporaryDirectory(prefix="vd100k-nginx-") as made:
        Path(made).chmod(0o711)
        yield Path(made)
