"""Who takes what: members with the same view come to shares that fit together.

Nothing moves without a need. A free lease goes to the member that has the least, ties by rendezvous hashing
(Thaler and Ravishankar 1998); a member that has two more than another gives one up, until that is over. Views
that differ for a moment cost a turn, never more: a lease has one holder whatever anybody computes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import blake2b

Members = Mapping[str, Collection[str]]
"""The live members, each with the names that it refuses."""


@dataclass(frozen=True, slots=True)
class LeaseChanges:
    """What one member should do now."""

    acquire: tuple[str, ...] = ()
    release: tuple[str, ...] = ()


def rebalance(me: str, names: Collection[str], holders: Mapping[str, str], members: Members) -> LeaseChanges:
    """The moves of `me` towards equal shares of `names`, which are of one kind.

    `holders` has who holds what now. Linear in names times members while everything has a holder.
    """
    held: dict[str, list[str]] = {member: [] for member in sorted(members)}
    for name in sorted(names):
        if holders.get(name) in held:
            held[holders[name]].append(name)
    take = []
    for name in sorted(name for name in names if name not in holders):
        taker = _lightest(name, held, members)
        if taker is not None:
            held[taker].append(name)
            if taker == me:
                take.append(name)
    give_up = [name for giver, name in _surplus(held, members) if giver == me and name not in take]
    return LeaseChanges(tuple(take), tuple(give_up))


def _surplus(held: dict[str, list[str]], members: Members) -> list[tuple[str, str]]:
    """What has to move, with who gives it up, until no member has two more than one that could take it."""
    moved = []
    while (move := _next_move(held, members)) is not None:
        giver, name, taker = move
        held[giver].remove(name)
        held[taker].append(name)
        moved.append((giver, name))
    return moved


def _next_move(held: Mapping[str, list[str]], members: Members) -> tuple[str, str, str] | None:
    fewest = min(len(names) for names in held.values())
    for giver in sorted(held, key=lambda member: (-len(held[member]), member)):
        if len(held[giver]) - fewest < 2:
            return None
        for name in held[giver]:
            taker = _lightest(name, held, members)
            if taker is not None and len(held[giver]) - len(held[taker]) >= 2:
                return giver, name, taker
    return None


def _lightest(name: str, held: Mapping[str, list[str]], members: Members) -> str | None:
    """The member with the least among those that can take it."""
    able = [member for member in held if name not in members[member]]
    return min(able, key=lambda member: (len(held[member]), _rank(member, name)), default=None)


def _rank(member: str, name: str) -> bytes:
    return blake2b(f"{member}/{name}".encode(), digest_size=8).digest()
