"""Leases with fencing epochs, and the heartbeats of the servers that hold them.

A server acquires a lease by raising its epoch. Every commit of the holder reads the epoch row `FOR SHARE` in
its transaction: either the next holder waits for the commit, or the commit sees the newer epoch and aborts.
Expiry is in another row, so renewals never block commits. One statement acquires, renews or releases many
leases; callers pass at most a few hundred names.
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
    """Another server holds the lease: drop everything that was planned under the old epoch."""


@dataclass(frozen=True, slots=True)
class Fence:
    """A lease and the epoch under which a decision was made."""

    lease: str
    epoch: int


async def acquire(
    session: WriteSession, name: str, holder: str, now: datetime, ttl: timedelta, *, force: bool = False
) -> int | None:
    """`acquire_all` for one lease. Returns the new epoch, None if another server holds the lease."""
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
    """Acquire the leases that are free, expired or already held by `holder`. Returns their new epochs.

    `force` acquires all of them; use it only if the other holder is dead.
    """
    if not names:
        return {}
    await _create_missing(session, names, now)
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
    """Renew the leases that `holder` still holds. Returns their names; the others are lost."""
    if not names:
        return set()
    renewed = await session.scalars(
        update(Lease)
        .where(Lease.name.in_(names), Lease.holder == holder)
        .values(expires_at=now + ttl)
        .returning(Lease.name)
        .execution_options(synchronize_session=False)
    )
    return set(renewed)


async def release_all(session: WriteSession, names: Collection[str], holder: str, now: datetime) -> None:
    """Release leases now, so that another server does not wait for their expiry."""
    await session.execute(
        update(Lease)
        .where(Lease.name.in_(names), Lease.holder == holder)
        .values(expires_at=now)
        .execution_options(synchronize_session=False)
    )


async def check_epoch(session: WriteSession, name: str, epoch: int) -> None:
    """Lock the epoch for the rest of this transaction. Raises StaleEpoch if it has changed."""
    current = (await lock_epochs(session, [name])).get(name)
    if current != epoch:
        raise StaleEpoch(f"lease {name!r}: epoch {epoch} is stale, the current one is {current}")


async def lock_epochs(session: WriteSession, names: Collection[str]) -> Mapping[str, int]:
    """The current epochs, locked against a raise for the rest of this transaction."""
    rows = await session.execute(_LOCK_EPOCHS, {"names": names})
    return {row.name: row.epoch for row in rows}


# Built once: every commit of a loop runs it.
_LOCK_EPOCHS = (
    select(LeaseEpoch.name, LeaseEpoch.epoch)
    .where(LeaseEpoch.name.in_(bindparam("names", expanding=True)))
    .order_by(LeaseEpoch.name)
    .with_for_update(read=True)
)


async def heartbeat(
    session: WriteSession,
    name: str,
    host: str,
    excluded_leases: Collection[str],
    now: datetime,
    ttl: timedelta,
) -> None:
    """Write the heartbeat of this server, and delete servers whose heartbeat expired over an hour ago."""
    server = await session.get(Server, name)
    if server is None:
        server = Server(name=name, host=host, started_at=now)
        session.add(server)
    server.excluded_leases, server.expires_at = sorted(excluded_leases), now + ttl
    await session.execute(delete(Server).where(Server.expires_at < now - timedelta(hours=1)))


async def unregister(session: WriteSession, name: str, now: datetime) -> None:
    """Remove a server and release all its leases."""
    await session.execute(
        update(Lease)
        .where(Lease.holder == name, Lease.expires_at > now)
        .values(expires_at=now)
        .execution_options(synchronize_session=False)
    )
    await session.execute(delete(Server).where(Server.name == name))


async def live_servers(session: AsyncSession, now: datetime) -> dict[str, frozenset[str]]:
    """The live servers by their heartbeats, each with the leases that it cannot use."""
    rows = await session.execute(select(Server.name, Server.excluded_leases).where(Server.expires_at > now))
    return {name: frozenset(excluded) for name, excluded in rows}


async def holders(session: AsyncSession, now: datetime) -> dict[str, str]:
    """The holder of each lease that has not expired."""
    rows = await session.execute(select(Lease.name, Lease.holder).where(Lease.expires_at > now))
    return {row.name: row.holder for row in rows}


async def lease_time(session: AsyncSession, local_now: datetime) -> datetime:
    """The time for leases: the database's clock on PostgreSQL, `local_now` on SQLite."""
    if session.get_bind().dialect.name == "sqlite":
        return local_now
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now


async def _create_missing(session: WriteSession, names: Collection[str], now: datetime) -> None:
    ordered = sorted(names)
    leases = [{"name": name, "holder": "", "expires_at": now} for name in ordered]
    epochs = [{"name": name, "epoch": 0} for name in ordered]
    # Rows as parameters: a statement that contains the rows is compiled each time.
    await session.execute(insert_missing(session, Lease), leases)
    await session.execute(insert_missing(session, LeaseEpoch), epochs)
