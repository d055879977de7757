"""Ports of this machine."""

from __future__ import annotations

import socket


def binding_error(port: int, host: str = "", rebinds: bool = False) -> OSError | None:
    """Why the port cannot be bound as if never used: after a server it stays taken for a minute (TIME_WAIT).

    ``rebinds`` is for one who does not mind that.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, rebinds)
            probe.bind((host, port))
    except OSError as error:
        return error
    return None
