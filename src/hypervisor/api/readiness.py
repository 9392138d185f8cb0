"""Whether this process can do its work now: what is looked at, what was found, what to do about it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from hypervisor.infra.observability.heartbeats import Heartbeats
from hypervisor.kernel.clock import Clock
from hypervisor.store.database import Database
from hypervisor.store.migrations.runner import head_revision, known_revisions

WITHIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """`code` names the refusal when it is not ok; `detail` is for people and holds no secret."""

    name: str
    ok: bool
    code: str
    detail: str


class Readiness:
    """The checks of one process. However many ask at once, the database is asked once."""

    def __init__(
        self, database: Database, clock: Clock, heartbeats: Heartbeats, stopping: asyncio.Event
    ) -> None:
        self._database = database
        self._clock = clock
        self._heartbeats = heartbeats
        self._stopping = stopping
        self._running: asyncio.Task[list[Check]] | None = None

    async def check(self) -> list[Check]:
        """All checks, the most telling one first."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._check(), name="readiness")
        return await asyncio.shield(self._running)

    async def _check(self) -> list[Check]:
        return [self._going_on(), *await self._check_database(), self._check_loops()]

    def _going_on(self) -> Check:
        stopping = self._stopping.is_set()
        detail = "The server is going down." if stopping else "The server takes requests."
        return Check("serving", not stopping, "stopping", detail)

    async def _check_database(self) -> list[Check]:
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(WITHIN_SECONDS), self._database.read() as session:
                revision = await session.scalar(text("SELECT version_num FROM alembic_version"))
        except (SQLAlchemyError, OSError, TimeoutError):
            detail = "The database does not answer: look whether it runs and DATABASE_URL still reaches it."
            return [Check("database", False, "database_unavailable", detail)]
        took = f"The database answered in {(self._clock.monotonic() - began) * 1000:.0f} ms."
        return [Check("database", True, "database_unavailable", took), _schema(revision)]

    def _check_loops(self) -> Check:
        late = self._heartbeats.late()
        if late:
            named = ", ".join(f"{name} for {age:.0f} s" for name, age in sorted(late.items()))
            detail = f"No sign of life from: {named}. The log says why; a restart hands the work over."
            return Check("loops", False, "loops_stalled", detail)
        ages = self._heartbeats.ages()
        seen = ", ".join(f"{name} {age:.0f} s ago" for name, age in sorted(ages.items()))
        return Check("loops", True, "loops_stalled", f"Last turns: {seen}." if seen else "None run here.")


def _schema(revision: str | None) -> Check:
    """A schema that is newer than this program is fine: it can be read by the version before."""
    if revision == head_revision():
        return Check("schema", True, "schema_outdated", f"The schema is at {revision}.")
    if revision is not None and revision not in known_revisions():
        detail = f"The schema is at {revision}, newer than this program; finish the upgrade soon."
        return Check("schema", True, "schema_outdated", detail)
    return Check(
        "schema", False, "schema_outdated", f"The schema is at {revision}: run `hypervisor migrate`."
    )
