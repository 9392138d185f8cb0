"""Leases with fencing epochs, and the members who share them out.

A holder takes a lease by raising its epoch. Every commit of the holder reads the epoch row `FOR SHARE` in
its own transaction: a newer holder's raise waits for it, or it sees the newer epoch and gives up. Expiry
lives in another row, so renewals never block commits. Many leases are taken, renewed and let go in one
statement each; callers keep a batch below some hundred names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from hypervisor.store.database import WriteSession
from hypervisor.store.inserts import insert_missing
from hypervisor.store.tables import Lease, LeaseEpoch, Server


class StaleEpoch(Exception):
    """Somebody else holds the lease now: whatever was planned under the old epoch is dropped."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The lease under which something was decided, and its epoch then."""

    lease: str
    epoch: int


async def acquire(
    session: WriteSession, name: str, holder: str, now: datetime, ttl: timedelta, *, force: bool = False
) -> int | None:
    """Take one lease as `acquire_all` does. Returns the new epoch, None if it is held."""
    return (await acquire_all(session, [name], holder, now, ttl, force=force)).get(name)


async def acquire_all(
    session: WriteSession,
    names: Collection[str],
    holder: str,
    now: datetime,
    ttl: timedelta,
    *,
    force: bool = False,
) -> dict[str, int]:
    """Take those of the leases that are free, expired or already ours; the new epoch of each that was taken.

    `force` takes them from anybody; for callers that know the other holder to be dead.
    """
    if not names:
        return {}
    await _make_missing(session, names, now)
    leases = await session.scalars(
        select(Lease).where(Lease.name.in_(names)).order_by(Lease.name).with_for_update()
    )
    free = [lease for lease in leases if force or lease.holder == holder or lease.expires_at <= now]
    for lease in free:
        lease.holder, lease.expires_at = holder, now + ttl
    await session.flush()
    rows = await session.execute(
        update(LeaseEpoch)
        .where(LeaseEpoch.name.in_([lease.name for lease in free]))
        .values(epoch=LeaseEpoch.epoch + 1)
        .returning(LeaseEpoch.name, LeaseEpoch.epoch)
        .execution_options(synchronize_session=False)
    )
    return {row.name: row.epoch for row in rows}


async def renew_all(
    session: WriteSession, names: Collection[str], holder: str, now: datetime, ttl: timedelta
) -> set[str]:
    """Prolong those of the leases that are still ours; the others were lost."""
    if not names:
        return set()
    kept = await session.scalars(
        update(Lease)
        .where(Lease.name.in_(names), Lease.holder == holder)
        .values(expires_at=now + ttl)
        .returning(Lease.name)
        .execution_options(synchronize_session=False)
    )
    return set(kept)


async def release_all(session: WriteSession, names: Collection[str], holder: str, now: datetime) -> None:
    """Let go of leases at once, so that another holder need not wait for their end."""
    await session.execute(
        update(Lease)
        .where(Lease.name.in_(names), Lease.holder == holder)
        .values(expires_at=now)
        .execution_options(synchronize_session=False)
    )


async def check_epoch(session: WriteSession, name: str, epoch: int) -> None:
    """Hold the epoch for the rest of this transaction. Raises StaleEpoch when it has moved on."""
    held = (await hold_epochs(session, [name])).get(name)
    if held != epoch:
        raise StaleEpoch(f"lease {name!r}: epoch {epoch} is over, {held} holds")


async def hold_epochs(session: WriteSession, names: Collection[str]) -> Mapping[str, int]:
    """The epochs as they are now, kept from being raised for the rest of this transaction."""
    rows = await session.execute(_HELD_EPOCHS, {"names": names})
    return {row.name: row.epoch for row in rows}


# Built once: every commit of a loop asks this.
_HELD_EPOCHS = (
    select(LeaseEpoch.name, LeaseEpoch.epoch)
    .where(LeaseEpoch.name.in_(bindparam("names", expanding=True)))
    .order_by(LeaseEpoch.name)
    .with_for_update(read=True)
)


async def beat(
    session: WriteSession,
    name: str,
    host: str,
    refuses: Collection[str],
    now: datetime,
    ttl: timedelta,
) -> None:
    """Say that this member lives, and forget those that have been silent for an hour."""
    member = await session.get(Server, name)
    if member is None:
        member = Server(name=name, host=host, started_at=now)
        session.add(member)
    member.excluded_leases, member.expires_at = sorted(refuses), now + ttl
    await session.execute(delete(Server).where(Server.expires_at < now - timedelta(hours=1)))


async def leave(session: WriteSession, name: str, now: datetime) -> None:
    """The member goes: everything that it holds is free at once."""
    await session.execute(
        update(Lease)
        .where(Lease.holder == name, Lease.expires_at > now)
        .values(expires_at=now)
        .execution_options(synchronize_session=False)
    )
    await session.execute(delete(Server).where(Server.name == name))


async def live_servers(session: AsyncSession, now: datetime) -> dict[str, frozenset[str]]:
    """The members whose heartbeat is fresh, each with the names that it refuses."""
    rows = await session.execute(select(Server.name, Server.excluded_leases).where(Server.expires_at > now))
    return {name: frozenset(refuses) for name, refuses in rows}


async def holders(session: AsyncSession, now: datetime) -> dict[str, str]:
    """Who holds each lease that has not run out."""
    rows = await session.execute(select(Lease.name, Lease.holder).where(Lease.expires_at > now))
    return {row.name: row.holder for row in rows}


async def lease_time(session: AsyncSession, own: datetime) -> datetime:
    """The time by which leases live: the database's where it has a clock, `own` on SQLite."""
    if session.get_bind().dialect.name == "sqlite":
        return own
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now


async def _make_missing(session: WriteSession, names: Collection[str], now: datetime) -> None:
    ordered = sorted(names)
    leases = [{"name": name, "holder": "", "expires_at": now} for name in ordered]
    epochs = [{"name": name, "epoch": 0} for name in ordered]
    # As parameters: with rows in it a statement is compiled anew each time.
    await session.execute(insert_missing(session, Lease), leases)
    await session.execute(insert_missing(session, LeaseEpoch), epochs)
