"""Whether a TCP port of this machine is free."""

from __future__ import annotations

import socket


def binding_error(port: int, host: str = "", rebinds: bool = False) -> OSError | None:
    """The error of binding the port; None if it is free.

    After a server has stopped, its port stays in TIME_WAIT for a minute. ``rebinds`` is true for
    programs that can bind a port in this state (SO_REUSEADDR).
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, rebinds)
            probe.bind((host, port))
    except OSError as error:
        return error
    return None
