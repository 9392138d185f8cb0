"""TCP options of a connection to PostgreSQL: keepalives and `tcp_user_timeout`, as in libpq."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from hypervisor.errors import StartupError
from hypervisor.store.driver.libpq_defaults import Parameter
from hypervisor.store.driver.numbers import MAX_WHOLE_NUMBER, whole_number

SocketOption = tuple[int, int, int]
"""Level, option and value, as for `socket.setsockopt`."""

_KEEPALIVE_OPTIONS = {
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
}


_MAX = {
    "keepalives_idle": 32767,
    "keepalives_interval": 32767,
    "keepalives_count": 127,
    "tcp_user_timeout": MAX_WHOLE_NUMBER,
}
"""The highest values that Linux takes."""


def socket_options(parameters: Mapping[str, Parameter]) -> list[SocketOption]:
    """The options of each connection. Keepalives are on unless `keepalives=0`. Raises StartupError."""
    options = []
    if _keepalives(parameters):
        options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
        options += _given(parameters, _KEEPALIVE_OPTIONS)
    return options + _given(parameters, {"tcp_user_timeout": "TCP_USER_TIMEOUT"})


def connection_class(options: Sequence[SocketOption]) -> type[Any]:
    """A connection class of the driver that sets these options on its TCP socket."""

    class TunedConnection(asyncpg.Connection):  # type: ignore[misc]
        __slots__ = ()

        def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
            super().__init__(protocol, transport, *rest)
            opened = transport.get_extra_info("socket")
            if opened is not None and opened.family != socket.AF_UNIX:
                for option in options:
                    opened.setsockopt(*option)

    return TunedConnection


def _keepalives(parameters: Mapping[str, Parameter]) -> bool:
    given = parameters.get("keepalives")
    if given and given.value not in ("0", "1"):
        raise StartupError(f"{given.place}={given.value} is not supported; write 0 or 1")
    return given is None or given.value == "1"


def _given(parameters: Mapping[str, Parameter], names: Mapping[str, str]) -> list[SocketOption]:
    """The options that have a value other than 0, which means the default of the system."""
    values = {
        option: whole_number(parameters[name], _MAX[name])
        for name, option in names.items()
        if name in parameters
    }
    return [
        (socket.IPPROTO_TCP, getattr(socket, option), value)
        for option, value in values.items()
        if value and hasattr(socket, option)
    ]
