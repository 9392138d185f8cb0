"""Leases with fencing epochs.

A holder takes a lease by raising its epoch. Every commit of the holder reads the epoch row `FOR SHARE` in
its own transaction: a newer holder's raise waits for it, or it sees the newer epoch and gives up. Expiry
lives in another row, so renewals never block commits.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select

from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Lease, LeaseEpoch


class StaleEpoch(Exception):
    """Somebody else holds the lease now: whatever was planned under the old epoch is dropped."""


async def acquire(
    session: WriteSession, name: str, holder: str, now: datetime, ttl: timedelta, *, force: bool = False
) -> int | None:
    """Take the lease when it is free, expired or already ours. Returns the new epoch, None if it is held.

    `force` takes it from anybody; for callers that know the other holder to be dead.
    """
    lease = await session.get(Lease, name, with_for_update=True)
    if lease is not None and lease.holder != holder and lease.expires_at > now and not force:
        return None
    if lease is None:
        session.add(Lease(name=name, holder=holder, expires_at=now + ttl))
    else:
        lease.holder, lease.expires_at = holder, now + ttl
    row = await session.get(LeaseEpoch, name, with_for_update=True)
    if row is None:
        row = LeaseEpoch(name=name, epoch=0)
        session.add(row)
    row.epoch += 1
    return row.epoch


async def renew(session: WriteSession, name: str, holder: str, now: datetime, ttl: timedelta) -> bool:
    """Prolong the lease if it is still ours. False: it was lost."""
    lease = await session.get(Lease, name, with_for_update=True)
    if lease is None or lease.holder != holder:
        return False
    lease.expires_at = now + ttl
    return True


async def release(session: WriteSession, name: str, holder: str, now: datetime) -> None:
    """Let go of the lease at once, so that another holder need not wait for its end."""
    lease = await session.get(Lease, name, with_for_update=True)
    if lease is not None and lease.holder == holder:
        lease.expires_at = now


async def check_epoch(session: WriteSession, name: str, epoch: int) -> None:
    """Hold the epoch for the rest of this transaction. Raises StaleEpoch when it has moved on."""
    held = await session.scalar(
        select(LeaseEpoch.epoch).where(LeaseEpoch.name == name).with_for_update(read=True)
    )
    if held != epoch:
        raise StaleEpoch(f"lease {name!r}: epoch {epoch} is over, {held} holds")
