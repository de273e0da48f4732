"""The address that the server listens on: is it free, how is it written, who has it."""

from __future__ import annotations

import socket
from contextlib import suppress

import psutil

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  # what to call to reach a server there


class PortTaken(OSError):
    """Nothing can listen on that address; the message says who does, and what would work."""


def claim_port(host: str, port: int) -> int:
    """The port that a server may take now: `port` itself, or a free one for 0. Raises PortTaken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise PortTaken(f"{host!r} is not an address of this machine ({error.strerror}); set MANYHATS_HOST") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: TIME_WAIT is no obstacle
        try:
            probe.bind(address)
        except OSError as error:
            other = f"another one: MANYHATS_PORT={port + 1 if port < 65535 else port - 1}"
            raise PortTaken(
                f"cannot listen on {url(host, port)}: {error.strerror}{_user(port)}; free the port or take {other}"
            ) from error
        return int(probe.getsockname()[1])


def url(host: str, port: int) -> str:
    """The address as a client on this machine writes it."""
    reachable = ANY_ADDRESS.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _user(port: int) -> str:
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            here = connection.laddr
            if connection.status == psutil.CONN_LISTEN and here and here.port == port and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f", process {connection.pid} has it ({command[:100]})"
    return ""
