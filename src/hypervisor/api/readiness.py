"""The readiness checks of this process, with what to do when one fails."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from hypervisor.infra.observability.heartbeats import Heartbeats
from hypervisor.kernel.clock import Clock
from hypervisor.store.database import Database
from hypervisor.store.migrations.runner import head_revision, known_revisions

DATABASE_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """One result. `code` is the error code if it is not ok; `detail` is for people, without secrets."""

    name: str
    ok: bool
    code: str
    detail: str


class Readiness:
    """Runs the checks. Concurrent callers share one run, and so one query."""

    def __init__(
        self, database: Database, clock: Clock, heartbeats: Heartbeats, stopping: asyncio.Event
    ) -> None:
        self._database = database
        self._clock = clock
        self._heartbeats = heartbeats
        self._stopping = stopping
        self._running: asyncio.Task[list[Check]] | None = None

    async def check(self) -> list[Check]:
        """Return all results, the most important one first."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._check(), name="readiness")
        return await asyncio.shield(self._running)

    async def _check(self) -> list[Check]:
        return [self._check_serving(), *await self._check_database(), self._check_loops()]

    def _check_serving(self) -> Check:
        stopping = self._stopping.is_set()
        detail = "The server is shutting down." if stopping else "The server accepts requests."
        return Check("serving", not stopping, "stopping", detail)

    async def _check_database(self) -> list[Check]:
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT_SECONDS):
                obstacle = await self._database.write_obstacle()
                if obstacle is not None:
                    return [Check("database", False, "database_read_only", obstacle)]
                revision = await self._revision()
        except (SQLAlchemyError, OSError, TimeoutError):
            detail = "The database does not answer. Check that it runs and that DATABASE_URL is right."
            return [Check("database", False, "database_unavailable", detail)]
        took = f"The database answered in {(self._clock.monotonic() - started) * 1000:.0f} ms."
        return [Check("database", True, "database_unavailable", took), _schema(revision)]

    async def _revision(self) -> str | None:
        async with self._database.read() as session:
            revision: str | None = await session.scalar(text("SELECT version_num FROM alembic_version"))
        return revision

    def _check_loops(self) -> Check:
        late = self._heartbeats.late()
        if late:
            named = ", ".join(f"{name} for {age:.0f} s" for name, age in sorted(late.items()))
            detail = f"No heartbeat from: {named}. See the log, and restart the server."
            return Check("loops", False, "loops_stalled", detail)
        ages = self._heartbeats.ages()
        beats = ", ".join(f"{name} {age:.0f} s ago" for name, age in sorted(ages.items()))
        return Check(
            "loops",
            True,
            "loops_stalled",
            f"Last heartbeats: {beats}." if beats else "This process runs no loops.",
        )


def _schema(revision: str | None) -> Check:
    """Check the revision. A newer schema is fine: the previous version of the program can use it."""
    if revision == head_revision():
        return Check("schema", True, "schema_outdated", f"The schema is at {revision}.")
    if revision is not None and revision not in known_revisions():
        detail = f"The schema is at {revision}, newer than this program. Complete the upgrade soon."
        return Check("schema", True, "schema_outdated", detail)
    return Check(
        "schema",
        False,
        "schema_outdated",
        f"The schema is at {revision}, which is too old. Run `hypervisor migrate`.",
    )
