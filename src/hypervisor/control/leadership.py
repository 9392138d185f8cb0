"""Holding the scheduler's lease: one leader at a time, fenced by an epoch.

Trust in the lease is local and monotonic: it is counted from the START of the last successful attempt, so
a slow answer makes the leader doubt early, never late.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, select

from hypervisor.control.commit import Fence
from hypervisor.kernel.clock import Clock
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.leases import acquire, release, renew

LEASE_TTL = timedelta(seconds=15)
RENEW_EVERY = 10.0
RETRY_EVERY = 2.0

log = structlog.get_logger(__name__)


class Leadership:
    """Takes and keeps one named lease. `fence` is None while somebody else holds it."""

    def __init__(self, database: Database, clock: Clock, name: str, holder: str) -> None:
        self._database = database
        self._clock = clock
        self._name = name
        self._holder = holder
        self._epoch: int | None = None
        self._trusted_until = float("-inf")
        self._changed = asyncio.Event()

    @property
    def fence(self) -> Fence | None:
        if self._epoch is None or self._clock.monotonic() >= self._trusted_until:
            return None
        return Fence(self._name, self._epoch)

    async def run(self) -> None:
        """Take the lease when it is free and renew it, until cancelled; then let go of it."""
        try:
            while True:
                await self._step_safely()
                await asyncio.sleep(RENEW_EVERY if self._epoch is not None else RETRY_EVERY)
        finally:
            await asyncio.shield(self._let_go())

    def doubt(self) -> None:
        """Forget the lease after a stale epoch was seen; `run` tries to take it again."""
        self._epoch = None

    async def wait_until_leading(self) -> Fence:
        while (fence := self.fence) is None:
            await self._changed.wait()
            self._changed.clear()
        return fence

    async def _step_safely(self) -> None:
        try:
            await self._step()
        except Exception as error:
            # A database that cannot be reached must not end the loop: trust runs out by itself.
            log.warning("lease.unreachable", lease=self._name, error=str(error))

    async def _step(self) -> None:
        asked_at = self._clock.monotonic()
        async with self._database.write() as session:
            now = await self._database_now(session)
            if self._epoch is not None:
                kept = await renew(session, self._name, self._holder, now, LEASE_TTL)
                epoch = self._epoch if kept else None
            else:
                # One server process on a SQLite file is ensured by its lock: an old lease is a dead one's.
                force = self._database.is_sqlite
                epoch = await acquire(session, self._name, self._holder, now, LEASE_TTL, force=force)
        if epoch is not None:
            self._trusted_until = asked_at + LEASE_TTL.total_seconds()
        if epoch != self._epoch:
            log.info("lease.changed", lease=self._name, epoch=epoch)
        self._epoch = epoch
        self._changed.set()

    async def _let_go(self) -> None:
        if self._epoch is None:
            return
        self._epoch = None
        async with self._database.write() as session:
            await release(session, self._name, self._holder, await self._database_now(session))

    async def _database_now(self, session: WriteSession) -> datetime:
        """Leases live by the database's clock where there is one to ask."""
        if self._database.is_sqlite:
            return self._clock.now()
        now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
        return now
