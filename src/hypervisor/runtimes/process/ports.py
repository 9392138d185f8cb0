"""Chooses free ports of this machine for workloads."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection, Iterable

from hypervisor.runtimes.protocol import LaunchFailed

HOST = "127.0.0.1"
FIRST, LAST = 20_000, 32_767
"""Below the range that Linux uses for outgoing connections.

So no connection takes a port between its choice and the moment that the workload listens on it.
"""

_TRIES = 200


def choose(declared: Iterable[int], taken: Collection[int]) -> dict[int, int]:
    """Return a free host port for each declared port, by declared port.

    `taken` are the ports of other instances, which may not listen on them yet. Raises LaunchFailed.
    """
    chosen: dict[int, int] = {}
    for port in declared:
        if port not in chosen:
            chosen[port] = _free_port({*taken, *chosen.values()})
    return chosen


def _free_port(taken: Collection[int]) -> int:
    for _ in range(_TRIES):
        port = random.randint(FIRST, LAST)
        if port not in taken and _can_bind(port):
            return port
    raise LaunchFailed(f"no free port between {FIRST} and {LAST} on {HOST}", retryable=True)


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
