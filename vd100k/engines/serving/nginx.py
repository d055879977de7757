"""The configuration files of nginx, which balances requests across several replicas."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from vd100k.config.run import Hardware


def nginx_files(hardware: Hardware, folder: Path) -> dict[str, str]:
    """The content of the two files by name.

    ``vllm.conf`` has an upstream and a server for the ``http`` block of any nginx. ``nginx.conf``
    includes it, so that an ordinary user can run nginx from ``folder``.
    """
    from jinja2 import Environment, StrictUndefined  # slow to import, and few runs need nginx

    templates = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    shares = hardware.replica_weights or [1] * hardware.replicas
    header = hardware.affinity_header
    facts = {
        "host": hardware.host,
        "port": hardware.port,
        "replicas": list(zip(hardware.ports, shares, strict=True)),
        "affinity": header and f"$http_{header.lower().replace('-', '_')}",
        "folder": folder,
    }
    return {
        name: templates.from_string(
            (files("vd100k.engines.serving") / f"{name}.j2").read_text(encoding="utf-8")
        ).render(facts)
        for name in ("vllm.conf", "nginx.conf")
    }
