"""Distribution of the leases: servers with the same view compute the same distribution.

A free lease goes to the server that holds the fewest; ties are broken by rendezvous hashing (Thaler and
Ravishankar 1998). A server that holds at least two more than another releases one at a time. No other lease
moves. Servers with different views lose at most one turn: the table allows one holder for each lease.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import blake2b

Servers = Mapping[str, Collection[str]]
"""The live servers, each with the leases that it excludes."""


@dataclass(frozen=True, slots=True)
class LeaseChanges:
    """The leases that one server should acquire and release now."""

    acquire: tuple[str, ...] = ()
    release: tuple[str, ...] = ()


def rebalance(
    server: str, names: Collection[str], holders: Mapping[str, str], servers: Servers
) -> LeaseChanges:
    """The changes of `server` towards an equal distribution of `names`, which are of one kind.

    `holders` maps each held lease to its server. Linear in names times servers while every lease is held.
    """
    held: dict[str, list[str]] = {server: [] for server in sorted(servers)}
    for name in sorted(names):
        if holders.get(name) in held:
            held[holders[name]].append(name)
    acquire = []
    for name in sorted(name for name in names if name not in holders):
        target = _least_loaded(name, held, servers)
        if target is not None:
            held[target].append(name)
            if target == server:
                acquire.append(name)
    release = [name for source, name in _surplus(held, servers) if source == server and name not in acquire]
    return LeaseChanges(tuple(acquire), tuple(release))


def _surplus(held: dict[str, list[str]], servers: Servers) -> list[tuple[str, str]]:
    """The (server, lease) pairs to release until no server holds two more than another eligible one."""
    moves = []
    while (move := _next_move(held, servers)) is not None:
        source, name, target = move
        held[source].remove(name)
        held[target].append(name)
        moves.append((source, name))
    return moves


def _next_move(held: Mapping[str, list[str]], servers: Servers) -> tuple[str, str, str] | None:
    fewest = min(len(names) for names in held.values())
    for source in sorted(held, key=lambda server: (-len(held[server]), server)):
        if len(held[source]) - fewest < 2:
            return None
        for name in held[source]:
            target = _least_loaded(name, held, servers)
            if target is not None and len(held[source]) - len(held[target]) >= 2:
                return source, name, target
    return None


def _least_loaded(name: str, held: Mapping[str, list[str]], servers: Servers) -> str | None:
    """The eligible server that holds the fewest leases."""
    eligible = [server for server in held if name not in servers[server]]
    return min(eligible, key=lambda server: (len(held[server]), _rank(server, name)), default=None)


def _rank(server: str, name: str) -> bytes:
    return blake2b(f"{server}/{name}".encode(), digest_size=8).digest()
