"""Ports of this machine."""

from __future__ import annotations

import socket


def binding_error(port: int) -> OSError | None:
    """Why the port cannot be bound as if never used: after a server it stays taken for a minute (TIME_WAIT)."""
    try:
        with socket.socket() as probe:
            probe.bind(("", port))
    except OSError as error:
        return error
    return None
