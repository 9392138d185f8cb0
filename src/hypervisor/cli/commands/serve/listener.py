"""The listening sockets of `hypervisor serve`: one for each address of HOST, all on one port."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack

from hypervisor.addresses import Address, listen_addresses, url_host
from hypervisor.errors import StartupError

BACKLOG = 2048
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""Errors for an address of a family that the machine lacks."""
_PORT_TRIES = 20
"""Number of free ports that are tried until one is free on every address."""


def listen(host: str, port: int) -> list[socket.socket]:
    """The sockets, at least one. Raises StartupError with one line when the server cannot listen.

    With several addresses, those of a family that this machine lacks are left out.
    """
    try:
        addresses = listen_addresses(host)
    except OSError as error:
        raise StartupError(
            f"cannot listen on {host}: the name does not resolve ({_cause(error)}); set HOST or --host to an "
            "address of this machine"
        ) from None
    for _ in range(_PORT_TRIES):
        sockets = _listen_on_all(addresses, port, may_retry=port == 0)
        if sockets:
            return sockets
    raise StartupError(f"no port is free on all addresses of {host}; choose one with --port")


def describe(sockets: list[socket.socket]) -> str:
    """The addresses and ports, as for people."""
    names = [each.getsockname() for each in sockets]
    return ", ".join(f"{url_host(name[0])}:{name[1]}" for name in names)


def _listen_on_all(addresses: list[Address], port: int, *, may_retry: bool) -> list[socket.socket]:
    """A socket for each address; an empty list if the free port of the first is taken on another."""
    with ExitStack() as opened:
        sockets: list[socket.socket] = []
        refused: StartupError | None = None
        for address in addresses:
            chosen = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(opened.enter_context(_listen_on(address, chosen)))
            except OSError as error:
                if sockets and may_retry and error.errno == errno.EADDRINUSE:
                    return []
                refused = _refusal(address, chosen, error)
                if len(addresses) == 1 or error.errno not in _NO_FAMILY:
                    raise refused from None
        if refused is not None and not sockets:
            raise refused
        opened.pop_all()
        return sockets


def _listen_on(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    numeric = socket.getaddrinfo(str(address), port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return socket.create_server(numeric[0][4], family=family, backlog=BACKLOG)


def _refusal(address: Address, port: int, error: OSError) -> StartupError:
    advice = "choose another address with --port or --host"
    if error.errno == errno.EADDRNOTAVAIL:
        advice = "this machine has no such address; set HOST or --host to one of its addresses"
    if error.errno == errno.EACCES:
        advice = "choose a port from 1024 up with --port, or put a proxy in front"
    return StartupError(f"cannot listen on {url_host(str(address))}:{port}: {_cause(error)}; {advice}")


def _cause(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno) if error.errno else str(error)
